// The rotations that kernels read: one table of cosines and sines for all contexts. The first rows are
// the pass's, then each context has some of its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gpu.h"

namespace ringtide::model {

class GpuAngles {
 public:
  static constexpr int32_t kOwn = 64;     // rows of a context's latest positions
  static constexpr int32_t kMost = 256;  // contexts

  GpuAngles(kernels::Gpu& gpu, std::span<const double> inv_freq, int32_t pass_rows);
  ~GpuAngles();
  GpuAngles(const GpuAngles&) = delete;

  // Rows [row, row + n) become the angles of positions from this one on.
  void set(int32_t row, int64_t position, int64_t n);
  const float* cos() const { return cos_; }
  const float* sin() const { return sin_; }
  static int64_t bytes(int head_dim, int32_t pass_rows) {
    return (pass_rows + int64_t{kMost} * kRows) * head_dim * static_cast<int64_t>(sizeof(float));
  }

  // The rows of one context. Throws OutOfBudget where there are too many contexts.
  class Own {
   public:
    explicit Own(GpuAngles& table);
    ~Own();
    Own(const Own&) = delete;
    int32_t limit() const { return first_; }       // where a query stands towards the far part
    int32_t lookup() const { return first_ + 1; }  // and where a lookup's does
    // The row of a position, which is made if it is not there.
    int32_t at(int64_t position);

   private:
    GpuAngles& table_;
    int32_t first_;
    int64_t begin_ = -kOwn;  // position of the first of the others
  };

 private:
  static constexpr int32_t kRows = kOwn + 2;
  kernels::Gpu& gpu_;
  const int32_t half_, pass_rows_;
  double* inv_freq_;
  float* cos_;
  float* sin_;
  std::vector<int32_t> free_;
};

}  // namespace ringtide::model
