// What a lookup reads of one sequence, in device memory: representatives in groups, and where the
// payload of each unit lies. Changes reach the device with send().
#pragma once

#include <cstdint>
#include <vector>

#include "model/gpu_arena.h"
#include "model/gpu_pages.h"

namespace ringtide::model {

class GpuIndex {
 public:
  GpuIndex(kernels::Gpu& gpu, GpuArena& arena, const GpuLayout& layout)
      : gpu_(gpu), arena_(arena), layout_(layout) {}

  // Makes room for units below `end`. Throws OutOfBudget.
  void grow(int64_t end);
  // The group of a unit, and its place there.
  kernels::cuda::bf16* group(int64_t unit) const {
    return groups_[unit / kernels::cuda::kIndexGroup].as<kernels::cuda::bf16>();
  }
  static int32_t slot(int64_t unit) {
    return static_cast<int32_t>(unit % kernels::cuda::kIndexGroup);
  }
  // Representatives (layers, heads, head_dim) made before, rounded to bf16.
  void set(int64_t unit, const float* representatives);
  // Null: only in the store.
  void set_payload(int64_t unit, const std::byte* payload);
  const std::byte* payload(int64_t unit) const { return payloads_[unit]; }
  int64_t units() const { return static_cast<int64_t>(payloads_.size()); }
  int64_t absent() const { return absent_; }  // units whose payload is null

  void send();
  const kernels::cuda::bf16* const* groups() const {
    return tables_.as<const kernels::cuda::bf16*>();
  }
  const std::byte* const* payloads() const {
    return reinterpret_cast<const std::byte* const*>(tables_.data() + payloads_at());
  }
  int64_t bytes() const;
  static int64_t group_bytes(const GpuLayout& layout) {
    return layout.query_floats() * kernels::cuda::kIndexGroup * 2;
  }

 private:
  int64_t payloads_at() const { return capacity_ / kernels::cuda::kIndexGroup * 8; }

  kernels::Gpu& gpu_;
  GpuArena& arena_;
  const GpuLayout layout_;
  std::vector<GpuArena::Span> groups_;
  std::vector<const std::byte*> payloads_;
  int64_t absent_ = 0;
  GpuArena::Span tables_;  // pointers to groups, then payloads
  int64_t capacity_ = 0;   // units
  int64_t dirty_begin_ = 0, dirty_end_ = 0;  // payloads to send
};

}  // namespace ringtide::model
