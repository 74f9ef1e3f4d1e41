// Making a context again from its history: stored units stand in for the passes that made them.
//
// A pass needs, of the past, only what is in reach: the pages not sealed, the sinks, the index and
// the units it selects. So a context can be taken up at any block's end that is also a page's end,
// if the pages from there back through the window are stored as units.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/context.h"
#include "model/history.h"
#include "model/unit_store.h"

namespace ringtide::model {

// The last block end at or before `limit` tokens at which the context can be taken up with what the
// store has; 0: only from the start. `blocks`: how many blocks end there.
struct TakeUp {
  int64_t tokens = 0;
  size_t blocks = 0;
};
TakeUp find_take_up(const History& history, int64_t limit, UnitStore& store);

// Fills a fresh context with the state at `at`. Units that the store has lost are returned, and the
// context is not usable then.
std::vector<int64_t> take_up(Context& context, const History& history, const TakeUp& at,
                             const std::string& fingerprint, UnitStore& store);

// Of units [0, end): those that the store does not have, ascending.
std::vector<int64_t> absent_units(const History& history, int64_t end, UnitStore& store);

}  // namespace ringtide::model
