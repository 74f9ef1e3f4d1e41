#include "model/name_matcher.h"

#include <algorithm>

namespace ringtide::model {

NameMatcher::NameMatcher(std::vector<std::pair<std::string, TokenId>> names)
    : names_(std::move(names)) {
  std::erase_if(names_, [](const auto& name) { return name.first.empty(); });
  const auto by_name = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::stable_sort(names_.begin(), names_.end(), by_name);
  const auto equal = [](const auto& a, const auto& b) { return a.first == b.first; };
  names_.erase(std::unique(names_.begin(), names_.end(), equal), names_.end());
  for (const auto& [name, id] : names_) first_.set(static_cast<unsigned char>(name[0]));
}

NameMatcher::Match NameMatcher::search(std::string_view text) const {
  Match match;
  auto low = names_.begin(), high = names_.end();  // those that begin with text[0, depth)
  for (size_t depth = 0;; ++depth) {
    if (low != high && low->first.size() == depth) {
      match.id = low->second;
      match.length = depth;
      ++low;
    }
    if (low == high) return match;
    if (depth == text.size()) {
      match.open = true;
      return match;
    }
    const auto letter = static_cast<unsigned char>(text[depth]);
    const auto at = [depth](const auto& name) {
      return static_cast<unsigned char>(name.first[depth]);
    };
    low = std::partition_point(low, high, [&](const auto& name) { return at(name) < letter; });
    high = std::partition_point(low, high, [&](const auto& name) { return at(name) == letter; });
  }
}

}  // namespace ringtide::model
