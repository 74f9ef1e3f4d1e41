#include "deploy/memory_split.h"

#include <algorithm>

namespace ringtide::deploy {

// Buffers beyond the upper bounds make writing no faster; below the lower one a database writes
// many small files.
MemorySplit split_memory(int64_t budget) {
  MemorySplit split;
  split.unwritten = std::clamp<int64_t>(budget / 16, 1, 256 << 20);
  split.store = std::clamp<int64_t>(budget / 8, std::min<int64_t>(16 << 20, budget / 4), 320 << 20);
  split.sessions = std::max<int64_t>(1, budget - split.unwritten - split.store);
  return split;
}

}  // namespace ringtide::deploy
