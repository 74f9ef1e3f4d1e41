// The keys, values and all else that contexts hold on the device: one allocation, handed out in
// spans. Freed spans are used again for later work, which the compute queue orders after the earlier.
//
// One thread. Spans must not outlive the arena.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "kernels/gpu.h"

namespace ringtide::model {

class GpuArena {
 public:
  GpuArena(kernels::Gpu& gpu, int head_dim, int64_t bytes);
  ~GpuArena();
  GpuArena(const GpuArena&) = delete;

  // A piece of the arena, given back when destroyed. 1024-byte aligned.
  class Span {
   public:
    Span() = default;
    Span(Span&& other) noexcept { *this = std::move(other); }
    Span& operator=(Span&& other) noexcept {
      std::swap(arena_, other.arena_);
      std::swap(begin_, other.begin_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Span() {
      if (arena_) arena_->give_back(begin_, bytes_);
    }
    explicit operator bool() const { return arena_ != nullptr; }
    int64_t bytes() const { return bytes_; }
    std::byte* data() const { return arena_->base_ + begin_; }
    int32_t row() const { return static_cast<int32_t>(begin_ / arena_->row_bytes_); }
    template <class T>
    T* as() const {
      return reinterpret_cast<T*>(data());
    }

   private:
    friend class GpuArena;
    Span(GpuArena* arena, int64_t begin, int64_t bytes)
        : arena_(arena), begin_(begin), bytes_(bytes) {}
    GpuArena* arena_ = nullptr;
    int64_t begin_ = 0, bytes_ = 0;
  };

  // Throws OutOfBudget.
  Span take(int64_t bytes);

  int64_t bytes() const { return bytes_; }
  int64_t free_bytes() const { return free_bytes_; }
  const kernels::cuda::Arena& view() const { return view_; }
  int64_t row_bytes() const { return row_bytes_; }

 private:
  void give_back(int64_t begin, int64_t bytes);

  kernels::Gpu& gpu_;
  int64_t row_bytes_;
  int64_t bytes_;
  int64_t free_bytes_;
  std::byte* base_;
  kernels::cuda::Arena view_;
  std::map<int64_t, int64_t> free_;  // begin -> bytes, neighbours joined
};

}  // namespace ringtide::model
