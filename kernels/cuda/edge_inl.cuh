// Selection by order without sorting: where, going down from the highest key, a running amount
// reaches what is wanted. Amounts are integers, so that no result depends on the order of
// additions.
#pragma once

#include <cstdint>

#include "kernels/cuda/reduce_inl.cuh"

namespace ringtide::kernels::cuda {

constexpr int kEdgeThreads = 1024;

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

// Shared. Amounts of at most 14 * Limbs bits: sums of 2^18 of them, in limbs of 14 bits that are
// added by themselves.
template <int Limbs>
struct EdgeMemory {
  static constexpr int kDigits = 2048, kLimb = 14;
  uint32_t limbs[Limbs][kDigits];
  uint64_t warps[kEdgeThreads / 32];
  uint32_t digit;
  uint64_t before;

  __device__ void add(uint32_t digit, uint64_t x) {
#pragma unroll
    for (int i = 0; i < Limbs; ++i) {
      const uint32_t limb = static_cast<uint32_t>(x >> (kLimb * i)) & ((1u << kLimb) - 1);
      if (limb) atomicAdd(&limbs[i][digit], limb);
    }
  }
  __device__ uint64_t amount(int digit) const {
    uint64_t x = 0;
#pragma unroll
    for (int i = 0; i < Limbs; ++i) x += uint64_t{limbs[i][digit]} << (kLimb * i);
    return x;
  }
};

__device__ inline uint64_t sum_through(uint64_t x) {  // of lanes up to this one
  const int lane = threadIdx.x % 32;
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t other = __shfl_up_sync(kAllLanes, x, step);
    if (lane >= step) x += other;
  }
  return x;
}

// The highest key for which the elements of at least that key have `wanted` or more between them;
// elements i < n, at most 2^18; wanted at least 1 and at most the sum of all. A block of
// kEdgeThreads calls it.
template <int Limbs, class Key, class Amount>
__device__ Edge find_edge(int n, uint64_t wanted, EdgeMemory<Limbs>& memory, const Key& key,
                          const Amount& amount) {
  constexpr int kDigits = EdgeMemory<Limbs>::kDigits;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Edge edge;
  int known = 0;  // bits of the key, from the top
  for (const int bits : {11, 11, 10}) {
    const int shift = 32 - known - bits;
    __syncthreads();
    for (int i = threadIdx.x; i < Limbs * kDigits; i += kEdgeThreads) memory.limbs[0][i] = 0;
    __syncthreads();
#pragma unroll 4
    for (int start = 0; start < n; start += kEdgeThreads) {
      const int i = start + static_cast<int>(threadIdx.x);
      uint32_t k = 0;
      uint64_t x = 0;
      if (i < n) {
        k = key(i);
        if (known == 0 || k >> (32 - known) == edge.key >> (32 - known)) x = amount(i);
      }
      const uint32_t digit = k >> shift & ((1u << bits) - 1);
      // Many that are alike would wait for each other: the first one's are added up before.
      const unsigned some = __ballot_sync(kAllLanes, x != 0);
      if (some == 0) continue;
      const uint32_t first = __shfl_sync(kAllLanes, digit, __ffs(some) - 1);
      const bool alike = x != 0 && digit == first;
      const unsigned alike_lanes = __ballot_sync(kAllLanes, alike);
      if (__popc(alike_lanes) > 8) {
#pragma unroll
        for (int j = 0; j < Limbs; ++j) {
          const uint32_t limb = static_cast<uint32_t>(x >> (14 * j)) & ((1u << 14) - 1);
          const uint32_t sum = __reduce_add_sync(kAllLanes, alike ? limb : 0);
          if (lane == 0) atomicAdd(&memory.limbs[j][first], sum);
        }
        if (alike) x = 0;
      }
      if (x != 0) memory.add(digit, x);
    }
    __syncthreads();
    // Warp w has 64 digits, from 2047 - 64 w down; a lane has two.
    const int high = kDigits - 1 - 64 * warp - 2 * lane;
    const uint64_t one = memory.amount(high), two = memory.amount(high - 1);
    const uint64_t through = sum_through(one + two);
    if (lane == 31) memory.warps[warp] = through;
    __syncthreads();
    uint64_t before = edge.before + through - (one + two);
    for (int w = 0; w < warp; ++w) before += memory.warps[w];
    if (before < wanted && before + one + two >= wanted) {
      const bool upper = before + one >= wanted;
      memory.digit = static_cast<uint32_t>(upper ? high : high - 1);
      memory.before = upper ? before : before + one;
    }
    __syncthreads();
    edge.key |= memory.digit << shift;
    edge.before = memory.before;
    known += bits;
  }
  return edge;
}

}  // namespace ringtide::kernels::cuda
