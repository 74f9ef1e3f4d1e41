// What a tile of queries sees of some consecutive tokens, through a band.
#pragma once

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

// Query first + i sees token j where max(begin, low + i) <= j < min(end, high + i).
struct Sight {
  bool any = false;  // some query sees some token
  bool all = false;  // the band hides no token from any query
  int32_t low = 0, high = 0;
};

// Queries [first, last], tokens [begin, end) counted from the one at `position`. Positions and
// bounds of the band are meant to stay within 2^62; tiles within 2^20 queries and tokens.
__device__ inline Sight sight(int64_t first, int64_t last, int64_t position, int32_t begin,
                              int32_t end, const Band& band) {
  constexpr int64_t kMost = int64_t{1} << 62;
  constexpr int64_t kFar = int64_t{1} << 21;
  const int64_t nearest = max(band.nearest, -kMost), farthest = min(band.farthest, kMost);
  const int64_t most = last - position - begin, least = first - position - (end - 1);
  const int64_t distance = first - position;
  Sight s;
  s.any = begin < end && most >= nearest && least <= farthest;
  s.all = s.any && least >= nearest && most <= farthest;
  s.low = static_cast<int32_t>(max(-kFar, min(kFar, distance - farthest)));
  s.high = static_cast<int32_t>(max(-kFar, min(kFar, distance - nearest + 1)));
  return s;
}

}  // namespace ringtide::kernels::cuda
