// A context as restoring sees it: something that can stand at a block's end of its history, if the
// units from there back are stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/history.h"
#include "model/unit_store.h"

namespace ringtide::model {

// The end of a block: tokens before it, and blocks.
struct TakeUp {
  int64_t tokens = 0;
  size_t blocks = 0;
};

class Resumable {
 public:
  virtual ~Resumable() = default;
  virtual int64_t processed() const = 0;  // tokens
  // To stand at so many tokens it needs something of units that are out of reach: those that the
  // store does not have, ascending.
  virtual std::vector<int64_t> absent(const History& history, int64_t tokens,
                                      UnitStore& store) const = 0;
  // Fills an empty context with the state at `at`. Units that the store turns out to have lost are
  // returned, ascending; the context is not usable then.
  virtual std::vector<int64_t> take_up(const History& history, const TakeUp& at,
                                       UnitStore& store) = 0;
};

}  // namespace ringtide::model
