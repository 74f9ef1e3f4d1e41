#include "model/jinja_text.h"

#include <algorithm>

namespace ringtide::model {
namespace {

// The literal that starts after a quote; `at` moves past its end.
std::string quoted_text(std::string_view source, size_t& at, char quote) {
  std::string text;
  for (; at < source.size() && source[at] != quote; ++at) {
    if (source[at] != '\\' || at + 1 == source.size()) {
      text += source[at];
      continue;
    }
    const char escape = source[++at];
    if (escape == 'n') {
      text += '\n';
    } else if (escape == 't') {
      text += '\t';
    } else if (escape == 'r') {
      text += '\r';
    } else {
      text += escape;
    }
  }
  at = std::min(at + 1, source.size());
  return text;
}

}  // namespace

std::vector<std::string> jinja_literals(std::string_view source) {
  std::vector<std::string> literals;
  size_t at = 0;
  while (at < source.size()) {
    size_t open = at;
    do {
      open = source.find('{', open);
    } while (open != std::string_view::npos && open + 1 < source.size() &&
             std::string_view("{%#").find(source[open + 1]) == std::string_view::npos && ++open);
    if (open == std::string_view::npos || open + 1 >= source.size()) open = source.size();
    if (open > at) literals.emplace_back(source.substr(at, open - at));
    if (open == source.size()) break;
    const char kind = source[open + 1];
    const char end[] = {kind == '{' ? '}' : kind, '}', '\0'};
    at = open + 2;
    if (kind == '#') {
      at = std::min(source.find(end, at), source.size() - 2) + 2;
      continue;
    }
    while (at < source.size() && source.substr(at, 2) != end) {
      const char c = source[at++];
      if (c == '\'' || c == '"') literals.push_back(quoted_text(source, at, c));
    }
    at = std::min(at + 2, source.size());
  }
  return literals;
}

}  // namespace ringtide::model
