// Which tokens of a block a query sees.
#pragma once

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

struct TokenRange {
  int begin = 0, end = 0;
  __host__ __device__ bool empty() const { return begin >= end; }
};

// Tokens of [begin, end) of a block whose token 0 stands at `start`, seen from `position`.
__host__ __device__ inline TokenRange visible(int begin, int end, int64_t start, int64_t position,
                                              Band band) {
  constexpr int64_t kFar = int64_t{1} << 60;  // beyond any position, and safe to add
  const auto within = [](int64_t x) { return x < -kFar ? -kFar : x > kFar ? kFar : x; };
  const int64_t first = position - start - within(band.farthest);
  const int64_t stop = position - start - within(band.nearest) + 1;
  return {static_cast<int>(first > begin ? first : begin),
          static_cast<int>(stop < end ? (stop > -1 ? stop : -1) : end)};
}

}  // namespace ringtide::kernels::cuda
