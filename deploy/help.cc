#include "deploy/help.h"

#include <vector>

namespace ringtide::deploy {

namespace {

constexpr size_t kColumns = 80;
constexpr size_t kLeft = 30;  // of flags, and of what stands beside them

// Cuts at spaces; line breaks of the text stay, and a word longer than a line is a line.
std::vector<std::string> wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find_first_of(" \n", at), text.size());
    const std::string word = text.substr(at, end - at);
    std::string& line = lines.back();
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      lines.push_back(word);
    } else {
      line += (line.empty() ? "" : " ") + word;
    }
    if (end < text.size() && text[end] == '\n') lines.emplace_back();
    at = end + 1;
  }
  return lines;
}

std::string paragraph(const std::string& text) {
  std::string out;
  for (const std::string& line : wrap(text, kColumns)) out += line + "\n";
  return out;
}

std::string beside(const std::string& flag, const std::string& text) {
  std::string out = "  " + flag;
  if (out.size() + 2 > kLeft) out += "\n";
  bool first = out.back() != '\n';
  for (const std::string& line : wrap(text, kColumns - kLeft)) {
    out += std::string(first ? kLeft - out.size() : kLeft, ' ') + line + "\n";
    first = false;
  }
  return out;
}

}  // namespace

std::string HelpFormatter::make_description(const CLI::App* app) const {
  return paragraph(app->get_description());
}

std::string HelpFormatter::make_footer(const CLI::App* app) const {
  return paragraph(app->get_footer());
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  std::string flag = make_option_name(option, is_positional);
  if (!option->get_option_text().empty()) flag += " " + option->get_option_text();
  const char* must = option->get_required() ? " (required)" : "";
  return beside(flag, make_option_desc(option) + must);
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  return beside(command->get_name(), command->get_description());
}

}  // namespace ringtide::deploy
