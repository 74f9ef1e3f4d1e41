// Who may hold how much of --ram-budget.
#pragma once

#include <cstdint>

namespace ringtide::deploy {

struct MemorySplit {
  int64_t sessions = 0;   // the engine: windows, units, what grows with a session
  int64_t unwritten = 0;  // units on their way to the store; at least 1
  int64_t store = 0;      // buffers and caches of the databases
};

// The sum is the budget, where that is more than a few bytes.
MemorySplit split_memory(int64_t budget);

}  // namespace ringtide::deploy
