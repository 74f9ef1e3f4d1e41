// Selection by order without sorting: where, going down from the highest key, a running amount
// reaches what is wanted. Amounts are integers, so that no result depends on the order of
// additions.
#pragma once

#include <cstdint>

#include "kernels/cuda/reduce.cuh"

namespace ringtide::kernels::cuda {

// Keys in the order of floats; NaN below all.
__device__ inline uint32_t ordered(float x) {
  if (isnan(x)) return 0;
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

struct Edge {
  uint32_t key = 0;
  uint64_t before = 0;  // amount of all keys above it
};

struct EdgeMemory {  // shared
  unsigned long long amounts[256];
  uint32_t digit;
  uint64_t before;
};

// The highest key for which the elements of at least that key have `wanted` or more between them;
// elements i < n, amount(i) < 2^44, wanted at least 1 and at most the sum of all. The whole block
// calls it; its size is a multiple of 32, at least 256.
template <class Key, class Amount>
__device__ Edge find_edge(int n, uint64_t wanted, EdgeMemory& memory, const Key& key,
                          const Amount& amount) {
  constexpr int kLimb = 22;
  const int lane = threadIdx.x % 32;
  Edge edge;
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    if (threadIdx.x < 256) memory.amounts[threadIdx.x] = 0;
    __syncthreads();
    for (int start = 0; start < n; start += static_cast<int>(blockDim.x)) {
      const int i = start + static_cast<int>(threadIdx.x);
      uint32_t k = 0;
      uint64_t x = 0;
      if (i < n) {
        k = key(i);
        if (shift == 24 || k >> (shift + 8) == edge.key >> (shift + 8)) x = amount(i);
      }
      // One addition for each digit that the warp has.
      const uint32_t digit = k >> shift & 255u;
      for (unsigned left = __ballot_sync(kAllLanes, x != 0); left != 0;) {
        const uint32_t one = __shfl_sync(kAllLanes, digit, __ffs(left) - 1);
        const bool mine = x != 0 && digit == one;
        left &= ~__ballot_sync(kAllLanes, mine);
        const uint64_t part = mine ? x : 0;
        const uint64_t low =
            __reduce_add_sync(kAllLanes, static_cast<uint32_t>(part & ((1u << kLimb) - 1)));
        const uint64_t high = __reduce_add_sync(kAllLanes, static_cast<uint32_t>(part >> kLimb));
        if (lane == 0) atomicAdd(&memory.amounts[one], low + (high << kLimb));
      }
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      // Lane l has the 8 digits from 255 - 8 l down.
      uint64_t mine = 0;
      for (int i = 0; i < 8; ++i) mine += memory.amounts[255 - 8 * lane - i];
      uint64_t through = mine;
      for (int step = 1; step < 32; step *= 2) {
        const uint64_t other = __shfl_up_sync(kAllLanes, through, step);
        if (lane >= step) through += other;
      }
      uint64_t before = edge.before + through - mine;
      if (before < wanted && before + mine >= wanted) {
        int digit = 255 - 8 * lane;
        while (before + memory.amounts[digit] < wanted) before += memory.amounts[digit--];
        memory.digit = static_cast<uint32_t>(digit);
        memory.before = before;
      }
    }
    __syncthreads();
    edge.key |= memory.digit << shift;
    edge.before = memory.before;
  }
  return edge;
}

}  // namespace ringtide::kernels::cuda
