#include "storage/block_pool.h"

#include <cstdlib>
#include <new>

namespace ringtide::storage {
namespace {

constexpr size_t kLarge = 64 << 10;  // from here on blocks are kept
constexpr size_t kStep = 32 << 10;  // capacities are multiples, so that like sizes are exchangeable

// Stands before each block; keeps the alignment of malloc.
struct alignas(alignof(std::max_align_t)) Header {
  size_t capacity = 0;
};

Header* header_of(void* block) { return static_cast<Header*>(block) - 1; }

}  // namespace

BlockPool::~BlockPool() {
  for (const auto& [capacity, blocks] : kept_)
    for (void* block : blocks) std::free(header_of(block));
}

void* BlockPool::Allocate(size_t size) {
  const bool large = size >= kLarge;
  const size_t capacity = large ? (size + kStep - 1) / kStep * kStep : size;
  if (large) {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(capacity);
    if (found != kept_.end() && !found->second.empty()) {
      void* block = found->second.back();
      found->second.pop_back();
      kept_bytes_ -= capacity;
      return block;
    }
  }
  void* memory = std::malloc(sizeof(Header) + capacity);
  if (memory == nullptr) throw std::bad_alloc();
  return new (memory) Header{capacity} + 1;
}

void BlockPool::Deallocate(void* block) {
  if (block == nullptr) return;
  const size_t capacity = header_of(block)->capacity;
  if (capacity >= kLarge) {
    const std::lock_guard lock(mutex_);
    if (kept_bytes_ + capacity <= keep_bytes_) {
      kept_[capacity].push_back(block);
      kept_bytes_ += capacity;
      return;
    }
  }
  std::free(header_of(block));
}

size_t BlockPool::kept_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

}  // namespace ringtide::storage
