#include "actors/cluster/terms.h"

#include <algorithm>

namespace ringtide::actors::cluster {
namespace {

std::string value_of(const Terms& terms, const std::string& name) {
  const auto found = std::ranges::find(terms, name, &Term::name);
  return found == terms.end() ? "not said" : found->value;
}

}  // namespace

std::string refusal(const Terms& ours, const Terms& theirs) {
  std::string why;
  const auto compare = [&](const std::string& name) {
    const std::string here = value_of(ours, name), there = value_of(theirs, name);
    if (here == there) return;
    why += (why.empty() ? "" : "; ") + name + " is " + there + ", the cluster's is " + here;
  };
  for (const Term& term : ours) compare(term.name);
  for (const Term& term : theirs) {
    if (std::ranges::find(ours, term.name, &Term::name) == ours.end()) compare(term.name);
  }
  return why;
}

}  // namespace ringtide::actors::cluster
