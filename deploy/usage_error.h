// What is wrong with a command line, for a person: which setting, where it was made, what is
// missing.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace ringtide::deploy {

// Of `app` after its parse of `arguments` threw `error`.
std::string explain(const CLI::ParseError& error, const CLI::App& app,
                    const std::vector<std::string>& arguments);

// The line after that.
std::string where_to_look(const CLI::App& app);

// Whether the command that was chosen, as far as that is known, was told to print JSON.
bool asked_for_json(const CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace ringtide::deploy
