// How --help reads: lines of 80 columns, what must be given marked so.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace ringtide::deploy {

// Set before commands are added, which take it over.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_description(const CLI::App* app) const override;
  std::string make_footer(const CLI::App* app) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

}  // namespace ringtide::deploy
