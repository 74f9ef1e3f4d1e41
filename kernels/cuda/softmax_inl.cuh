// Softmax over keys that come tile by tile, in the registers of tensor-core fragments.
//
// A warp holds 16 rows of queries. Of rows g = lane / 4 and g + 8, a thread holds columns
// 8 b + 2 (lane % 4) + {0, 1} of every block b of 8 columns: x[4 b + {0, 1}] of row g and
// x[4 b + {2, 3}] of row g + 8. Results of mma.m16n8k16 and of wgmma lie so, and packed to bf16
// they are the left operand of the next product.
//
// A tile in which a row sees nothing leaves every bit of that row as it was: its maximum stays, its
// sums are scaled by exactly 1 and grow by exactly 0. So tiles may be skipped. Multiply-adds are
// written out: the compiler would fuse those of one row and not those of another.
#pragma once

#include <cstdint>

#include "kernels/cuda/kv.h"
#include "kernels/cuda/sight_inl.cuh"

namespace ringtide::kernels::cuda {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// Rows g and g + 8. max is of the unscaled products; sum is this thread's share of the row's.
struct SoftmaxRows {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
};

// Products of keys that the row does not see become -inf, whatever they were. `row` is that of g
// within the tile of queries.
template <int kBlocks>
__device__ inline void mask(float (&s)[4 * kBlocks], int row, int32_t begin, int32_t end,
                            int32_t low, int32_t high) {
  const int column = 2 * (threadIdx.x % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int from = max(begin, low + row + 8 * half) - column;
    const int to = min(end, high + row + 8 * half) - column;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int j = 8 * b + e;
        if (j < from || j >= to) s[4 * b + 2 * half + e] = -INFINITY;
      }
    }
  }
}

// Products become weights relative to the new maximum; what was summed before is to be scaled by
// `scale_before`. scale_log2 = scale * log2(e), above zero.
template <int kBlocks>
__device__ inline void absorb(float (&s)[4 * kBlocks], float scale_log2, SoftmaxRows& rows,
                              float (&scale_before)[2]) {
  // Both rows' maxima before both rows' weights: the exchange of one hides behind the other.
  float maxima[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // Four at a time: one would wait for the other's result.
    float parts[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) parts[i] = fmaxf(s[4 * i + 2 * half], s[4 * i + 2 * half + 1]);
#pragma unroll
    for (int b = 4; b < kBlocks; ++b)
      parts[b % 4] = fmaxf(parts[b % 4], fmaxf(s[4 * b + 2 * half], s[4 * b + 2 * half + 1]));
    maxima[half] =
        fmaxf(rows.max[half], fmaxf(fmaxf(parts[0], parts[1]), fmaxf(parts[2], parts[3])));
  }
#pragma unroll
  for (int lanes = 1; lanes <= 2; lanes *= 2) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      maxima[half] = fmaxf(maxima[half], __shfl_xor_sync(~0u, maxima[half], lanes));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float most = maxima[half];
    const float shift = most == -INFINITY ? 0 : __fmul_rn(most, scale_log2);
    // Rounded as the shift is: a maximum that stays gives exactly 1.
    scale_before[half] = exp2_fast(__fmul_rn(rows.max[half], scale_log2) - shift);
    rows.max[half] = most;
    float sums[4] = {};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[4 * b + 2 * half + e];
        x = exp2_fast(__fmaf_rn(x, scale_log2, -shift));
        sums[b % 4] += x;
      }
    }
    const float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    rows.sum[half] = __fmaf_rn(rows.sum[half], scale_before[half], sum);
  }
}

template <int kBlocks>
__device__ inline void pack(const float (&s)[4 * kBlocks], uint32_t (&p)[2 * kBlocks]) {
#pragma unroll
  for (int i = 0; i < 2 * kBlocks; ++i) p[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
}

// Mostly the maximum has settled, and all scales of a warp are 1.
template <int kBlocks>
__device__ inline void rescale(float (&o)[4 * kBlocks], const float (&scale_before)[2]) {
  if (__all_sync(~0u, scale_before[0] == 1 && scale_before[1] == 1)) return;
#pragma unroll
  for (int i = 0; i < 4 * kBlocks; ++i) o[i] *= scale_before[i / 2 % 2];
}

// Word j of lane t of four neighbours becomes word t of lane j.
__device__ inline void transpose_quad(uint32_t (&w)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const uint32_t give = upper ? w[i] : w[i | bit];
      const uint32_t take = __shfl_xor_sync(~0u, give, bit);
      (upper ? w[i] : w[i | bit]) = take;
    }
  }
}

// Partial results: whether queries saw something before, and whether what they saw goes out as such.
// Known when a kernel is compiled: a branch costs its loop the registers that it is short of.
template <bool kBefore, bool kPartial>
struct Carry {
  static constexpr bool before = kBefore, partial = kPartial;
  // Of one head of query 0; of a kind that is not carried, not used.
  const float* o_before = nullptr;
  const float* lse_before = nullptr;
  float* o32 = nullptr;  // may be o_before
};

// Divides by the sums, merges with what was seen before, and writes row g to query `row` and row g + 8
// to query row + 8 of one head, where they are below m. o and lse are those of that head of query 0;
// lse may be null, and may be lse_before.
template <int kBlocks, class Carried>
__device__ inline void finish(float (&o)[4 * kBlocks], const SoftmaxRows& rows, float scale_log2,
                              int row, int m, int heads, bf16* o_out, float* lse_out,
                              const Carried& carry) {
  const int quarter = threadIdx.x % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = rows.sum[half];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    float inverse = sum > 0 ? __fdividef(1, sum) : 0;
    const int64_t query = row + 8 * half;
    const bool real = query < m;
    float lse = sum > 0 ? __fmaf_rn(rows.max[half], scale_log2, log2f(sum)) : -INFINITY;
    if constexpr (Carried::before) {
      // Rows that are not there read another's, without a branch. Of the four threads that share a
      // row one reads lse, since it is the one that may write there.
      const int64_t there = min(query, int64_t{m} - 1);
      const float lse_before =
          __shfl_sync(~0u, carry.lse_before[there * heads], threadIdx.x % 32 & ~3) * kLog2E;
      const float most = fmaxf(lse, lse_before);
      const float shift = most == -INFINITY ? 0 : most;
      const float own = exp2_fast(lse - shift), other = exp2_fast(lse_before - shift);
      const float total = own + other;
      const float part = total > 0 ? __fdividef(1, total) : 0;
      const float share = other * part;
      inverse *= own * part;
      lse = total > 0 ? most + log2f(total) : -INFINITY;
      const float* from = carry.o_before + there * heads * (8 * kBlocks) + 2 * quarter;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        float* x = &o[4 * b + 2 * half];
        const float2 y = *reinterpret_cast<const float2*>(from + 8 * b);
        x[0] = __fmaf_rn(x[0], inverse, y.x * share);
        x[1] = __fmaf_rn(x[1], inverse, y.y * share);
        // Few loads ahead: registers are short here.
        if (b % 4 == 3) asm volatile("" ::: "memory");
      }
      inverse = 1;
    }
    if constexpr (Carried::partial) {
      float* to = carry.o32 + query * heads * (8 * kBlocks) + 2 * quarter;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const float* x = &o[4 * b + 2 * half];
        if (real)
          *reinterpret_cast<float2*>(to + 8 * b) = make_float2(x[0] * inverse, x[1] * inverse);
      }
    } else {
      bf16* to = o_out + query * heads * (8 * kBlocks);
#pragma unroll
      for (int b = 0; b < kBlocks; b += 4) {
        uint32_t w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* x = &o[4 * (b + i) + 2 * half];
          w[i] = pack_bf16(x[0] * inverse, x[1] * inverse);
        }
        transpose_quad(w);
        if (real) *reinterpret_cast<uint4*>(to + 8 * (b + quarter)) = {w[0], w[1], w[2], w[3]};
      }
    }
    if (real && lse_out && quarter == 0) lse_out[query * heads] = lse * kLn2;
  }
}

}  // namespace ringtide::kernels::cuda
