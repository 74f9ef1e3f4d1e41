// The second pass of decode_attention().
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/decode_splits_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/reduce_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

// One block a head of a row, a thread a dimension. Every warp makes the splits' weights for itself,
// one a lane, so that nobody waits for another.
template <int Dim>
__global__ void __launch_bounds__(Dim)
    merge_row(const DecodeAttention a, const Partials in, const int max_split) {
  constexpr int kFirst = 16;  // splits that are on their way before their weights are known
  const int head = blockIdx.x, row = blockIdx.y, d = threadIdx.x, lane = d % 32;
  // The lists are older than attend_split(), the previous kernel, which waited for all before it.
  const int splits = Splits(counts_of(a.lists[row]), a.shape.kv_heads).all();
  const int64_t query = int64_t{row} * a.shape.heads + head;
  const float2* stats = in.stats + query * max_split;
  const float* const o = in.o + query * max_split * Dim + d;
  before_previous_ends();

  float first[kFirst];
#pragma unroll
  for (int s = 0; s < kFirst; ++s) first[s] = s < splits ? o[int64_t{s} * Dim] : 0;
  float most = -INFINITY;
  for (int s = lane; s < splits; s += 32) most = fmaxf(most, stats[s].x);
  most = warp_max(most);

  float value = 0, total = 0;
  for (int base = 0; base < splits; base += 32) {
    float2 mine{-INFINITY, 0};
    if (base + lane < splits) mine = stats[base + lane];
    const float weight = mine.x == -INFINITY ? 0.0f : exp2f(mine.x - most);
    total += weight * mine.y;
    const int here = min(32, splits - base);
    if (base == 0) {
#pragma unroll
      for (int s = 0; s < kFirst; ++s)  // of a split that is not there, the weight is 0
        value = fmaf(__shfl_sync(kAllLanes, weight, s), first[s], value);
    }
#pragma unroll 16
    for (int s = base == 0 ? kFirst : 0; s < here; ++s)
      value = fmaf(__shfl_sync(kAllLanes, weight, s), o[int64_t{base + s} * Dim], value);
  }
  total = warp_sum(total);
  const bool none = !(total > 0);
  const float result = none ? 0.0f : value / total;
  if (a.o32)
    a.o32[query * Dim + d] = result;
  else
    a.o[query * Dim + d] = __float2bfloat16_rn(result);
  if (a.lse && d == 0) a.lse[query] = none ? -INFINITY : (most + log2f(total)) / kLog2e;
}

}  // namespace

void merge_splits(const DecodeAttention& a, const Partials& partials, int splits,
                  cudaStream_t stream) {
  by_head_dim(a.shape.head_dim, [&](auto dim) {
    launch("decode_attention", merge_row<dim()>, dim3(a.shape.heads, a.rows), dim(), 0, stream, a,
           partials, splits);
  });
}

}  // namespace ringtide::kernels::cuda
