// A context as restoring sees it: something that can stand at a block's end of its history, if what
// is in reach from there is stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
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
  // Keys under which the store has the pages that a take-up reads, by number; of those that can be
  // there.
  virtual const std::vector<UnitKey>& stored_pages(const History& history) const = 0;
  // To stand at so many tokens it needs something of units that are out of reach: those that the
  // store does not have, ascending.
  virtual std::vector<int64_t> absent(const History& history, int64_t tokens,
                                      UnitStore& store) const = 0;
  // Fills an empty context with the state at `at`. Pages and units that the store turns out to have
  // lost are returned, ascending; the context is not usable then.
  virtual std::vector<int64_t> take_up(const History& history, const TakeUp& at,
                                       UnitStore& store) = 0;
};

}  // namespace ringtide::model
