#include "model/gpu_index.h"

#include <algorithm>

#include "kernels/half.h"

namespace ringtide::model {

using kernels::cuda::kIndexGroup;

void GpuIndex::grow(int64_t end) {
  const int64_t before = static_cast<int64_t>(payloads_.size());
  if (end <= before) return;
  while (static_cast<int64_t>(groups_.size()) * kIndexGroup < end)
    groups_.push_back(arena_.take(group_bytes(layout_)));
  const int64_t capacity = static_cast<int64_t>(groups_.size()) * kIndexGroup;
  if (capacity > capacity_) {
    capacity_ = 2 * capacity;
    tables_ = arena_.take(payloads_at() + capacity_ * 8);
    dirty_begin_ = 0;
  } else if (dirty_begin_ == dirty_end_) {
    dirty_begin_ = before;
  }
  payloads_.resize(end);
  for (int64_t unit = before; unit < end; ++unit) absent_ += layout_.here(unit);
  dirty_end_ = end;
}

void GpuIndex::set(int64_t unit, const float* representatives) {
  const int64_t n = layout_.query_floats();
  std::vector<uint16_t> rounded(n);
  for (int64_t i = 0; i < n; ++i) rounded[i] = kernels::float_to_bfloat(representatives[i]);
  const int64_t row = layout_.row() * 2;
  gpu_.copy_rows(reinterpret_cast<std::byte*>(group(unit)) + slot(unit) * row, kIndexGroup * row,
                 rounded.data(), row, row, layout_.layers);
}

void GpuIndex::set_payload(int64_t unit, const std::byte* payload) {
  absent_ += (payload == nullptr) - (payloads_[unit] == nullptr);
  payloads_[unit] = payload;
  if (dirty_begin_ == dirty_end_) {
    dirty_begin_ = unit;
    dirty_end_ = unit + 1;
  } else {
    dirty_begin_ = std::min(dirty_begin_, unit);
    dirty_end_ = std::max(dirty_end_, unit + 1);
  }
}

void GpuIndex::send() {
  if (dirty_begin_ == dirty_end_) return;
  std::vector<const void*> groups;
  for (const auto& group : groups_) groups.push_back(group.data());
  gpu_.copy(tables_.data(), groups.data(), static_cast<int64_t>(groups.size()) * 8);
  gpu_.copy(tables_.data() + payloads_at() + dirty_begin_ * 8, payloads_.data() + dirty_begin_,
            (dirty_end_ - dirty_begin_) * 8);
  dirty_begin_ = dirty_end_ = 0;
}

int64_t GpuIndex::bytes() const {
  return static_cast<int64_t>(groups_.size()) * group_bytes(layout_) + tables_.bytes();
}

}  // namespace ringtide::model
