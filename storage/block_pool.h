// Memory for the blocks that the database reads. A payload block is large enough for malloc to map
// and unmap it each time, which costs more than reading it from the page cache; here such blocks
// are kept and handed out again.
#pragma once

#include <rocksdb/memory_allocator.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace ringtide::storage {

// Keeps at most `keep_bytes` of unused blocks; small ones pass through to malloc. Any thread.
class BlockPool : public rocksdb::MemoryAllocator {
 public:
  explicit BlockPool(size_t keep_bytes) : keep_bytes_(keep_bytes) {}
  ~BlockPool() override;

  const char* Name() const override { return "ringtide.BlockPool"; }
  void* Allocate(size_t size) override;
  void Deallocate(void* block) override;

  size_t kept_bytes() const;

 private:
  const size_t keep_bytes_;  // constant

  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> kept_;  // by capacity; guarded by mutex_
  size_t kept_bytes_ = 0;                      // guarded by mutex_
};

}  // namespace ringtide::storage
