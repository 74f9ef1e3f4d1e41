// The two policies that choose without looking: everything, and nothing but sinks and window.
#pragma once

#include <limits>
#include <numeric>

#include "model/policy.h"

namespace ringtide::model {

// Full attention. Units are only the form in which old tokens leave memory.
class ExactPolicy : public MemoryPolicy {
 public:
  using MemoryPolicy::MemoryPolicy;
  void select(const Lookup& lookup, std::vector<int64_t>& units) const override {
    units.resize(lookup.sealed);
    std::iota(units.begin(), units.end(), 0);
  }
  Residency reside(int64_t) const override { return Residency::Keep; }
  Placement position() const override {
    return {.query_limit = std::numeric_limits<int64_t>::max(), .true_distance = true};
  }
  // Every unit is selected, the first one with all its tokens.
  Always always() const override { return {.sinks = false, .overflow = true}; }
};

// StreamingLLM (arXiv 2309.17453): the first tokens and the last, at their places in such a cache:
// beyond it, sinks stand right before the window.
class StreamingPolicy : public MemoryPolicy {
 public:
  using MemoryPolicy::MemoryPolicy;
  void select(const Lookup&, std::vector<int64_t>& units) const override {
    units.clear();
  }
  Residency reside(int64_t) const override { return Residency::Demote; }
  Placement position() const override {
    return {.query_limit = int64_t{config().sinks} + config().window - 1};
  }
  Always always() const override { return {.sinks = true, .overflow = false}; }
};

}  // namespace ringtide::model
