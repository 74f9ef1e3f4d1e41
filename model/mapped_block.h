// Memory of pages, units and groups: mapped from the system, beside malloc.
//
// These are large, live for very different times, and are let go by several threads. In malloc's
// arenas they leave holes that nothing else fits into, and a process holds far more than is in use.
// Here a block's memory goes back to the system when it is let go; its addresses, and a few blocks
// with their memory, are kept for the next block of the same size.
#pragma once

#include <cstddef>
#include <utility>

namespace ringtide::model {

// Owns one block, aligned to a page of the system. Contents are undefined. Any thread may make one
// and let it go.
class MappedBlock {
 public:
  // Bytes that all blocks let go may still occupy together.
  static constexpr size_t kKeptBytes = size_t{16} << 20;

  MappedBlock() = default;
  // Throws std::bad_alloc.
  explicit MappedBlock(size_t bytes);
  ~MappedBlock();
  MappedBlock(MappedBlock&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  MappedBlock& operator=(MappedBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* get() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ringtide::model
