#include "model/gpu_arena.h"

#include <algorithm>
#include <string>

#include "model/engine.h"

namespace ringtide::model {
namespace {

constexpr int64_t kAlignment = 1024;

}  // namespace

GpuArena::GpuArena(kernels::Gpu& gpu, int head_dim, int64_t bytes)
    : gpu_(gpu),
      row_bytes_(int64_t{head_dim} * 2),
      // Rows are counted in 32 bits.
      bytes_(std::min(bytes, row_bytes_ * std::numeric_limits<int32_t>::max()) / kAlignment *
             kAlignment),
      free_bytes_(bytes_),
      base_(static_cast<std::byte*>(gpu.allocate(bytes_))),
      view_{reinterpret_cast<kernels::cuda::bf16*>(base_), bytes_ / row_bytes_} {
  free_[0] = bytes_;
}

GpuArena::~GpuArena() { gpu_.release(base_); }

GpuArena::Span GpuArena::take(int64_t bytes) {
  bytes = std::max<int64_t>(1, (bytes + kAlignment - 1) / kAlignment) * kAlignment;
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [begin, size] = *it;
    if (size < bytes) continue;
    free_.erase(it);
    if (size > bytes) free_[begin + bytes] = size - bytes;
    free_bytes_ -= bytes;
    return Span(this, begin, bytes);
  }
  throw OutOfBudget("GPU memory is used up: " + std::to_string(bytes >> 20) + " MiB wanted, " +
                    std::to_string(free_bytes_ >> 20) + " of " + std::to_string(bytes_ >> 20) +
                    " MiB free; raise --gpu-memory or close sessions");
}

void GpuArena::give_back(int64_t begin, int64_t bytes) {
  free_bytes_ += bytes;
  auto next = free_.lower_bound(begin);
  if (next != free_.end() && begin + bytes == next->first) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      before->second += bytes;
      return;
    }
  }
  free_[begin] = bytes;
}

}  // namespace ringtide::model
