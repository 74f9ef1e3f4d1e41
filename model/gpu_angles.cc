#include "model/gpu_angles.h"

#include "model/engine.h"

namespace ringtide::model {

GpuAngles::GpuAngles(kernels::Gpu& gpu, std::span<const double> inv_freq, int32_t pass_rows)
    : gpu_(gpu), half_(static_cast<int32_t>(inv_freq.size())), pass_rows_(pass_rows) {
  const int64_t half_table = bytes(2 * half_, pass_rows) / 2;
  inv_freq_ = static_cast<double*>(gpu.allocate(static_cast<int64_t>(inv_freq.size_bytes())));
  cos_ = static_cast<float*>(gpu.allocate(half_table));
  sin_ = static_cast<float*>(gpu.allocate(half_table));
  gpu.copy(inv_freq_, inv_freq.data(), static_cast<int64_t>(inv_freq.size_bytes()));
  for (int32_t i = kMost; i-- > 0;) free_.push_back(pass_rows + i * kRows);
}

GpuAngles::~GpuAngles() {
  gpu_.release(inv_freq_);
  gpu_.release(cos_);
  gpu_.release(sin_);
}

void GpuAngles::set(int32_t row, int64_t position, int64_t n) {
  const int64_t at = int64_t{row} * half_;
  gpu_.rope_angles(inv_freq_, half_, position, n, cos_ + at, sin_ + at);
}

GpuAngles::Own::Own(GpuAngles& table) : table_(table) {
  if (table.free_.empty())
    throw OutOfBudget("there are " + std::to_string(kMost) + " sessions on the GPU, the most it has");
  first_ = table.free_.back();
  table.free_.pop_back();
}

GpuAngles::Own::~Own() { table_.free_.push_back(first_); }

int32_t GpuAngles::Own::at(int64_t position) {
  if (position < begin_ || position >= begin_ + kOwn) {
    begin_ = position / kOwn * kOwn;
    table_.set(first_ + 2, begin_, kOwn);
  }
  return first_ + 2 + static_cast<int32_t>(position - begin_);
}

}  // namespace ringtide::model
