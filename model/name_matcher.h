// The longest of a set of names that a text starts with.
#pragma once

#include <bitset>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/types.h"

namespace ringtide::model {

// Immutable once made; any thread.
class NameMatcher {
 public:
  NameMatcher() = default;
  // Empty names match nothing; of equal names the first counts.
  explicit NameMatcher(std::vector<std::pair<std::string, TokenId>> names);

  struct Match {
    TokenId id = -1;    // -1: none
    size_t length = 0;  // bytes
    bool open = false;  // the text ends within a longer name
  };
  Match match(std::string_view text) const {
    return text.empty() || !first_[static_cast<unsigned char>(text[0])] ? Match() : search(text);
  }

 private:
  Match search(std::string_view text) const;

  std::vector<std::pair<std::string, TokenId>> names_;  // sorted
  std::bitset<256> first_;
};

}  // namespace ringtide::model
