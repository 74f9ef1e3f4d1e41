// What all shards of a ring must have in common: named values, compared one by one.
#pragma once

#include <string>
#include <vector>

namespace ringtide::actors::cluster {

// Of what shards say to each other, calls included: the first of all terms.
constexpr const char* kProtocol = "2";

struct Term {
  std::string name, value;
};
using Terms = std::vector<Term>;

// Why who comes with `theirs` cannot compute with who has `ours`: each term that differs, by name,
// with both values; empty: nothing differs.
std::string refusal(const Terms& ours, const Terms& theirs);

}  // namespace ringtide::actors::cluster
