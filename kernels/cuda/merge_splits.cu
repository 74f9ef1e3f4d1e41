// The second pass of decode_attention().
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/decode_splits_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/reduce_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

// One block a head of a row; a thread has a dimension, and every kTeams-th split.
constexpr int kMergeThreads = 512;
template <int Dim>
__global__ void __launch_bounds__(kMergeThreads)
    merge_row(const DecodeAttention a, const Partials in, const int max_split) {
  extern __shared__ float weights[];  // (splits)
  constexpr int kTeams = kMergeThreads / Dim;
  constexpr int kFirst =
      8;  // splits of a team that are on their way before their weights are known
  __shared__ float team_sums[kTeams][Dim];
  const int head = blockIdx.x, row = blockIdx.y, tid = threadIdx.x;
  // The lists are older than attend_split(), the previous kernel, which waited for all before it.
  const int count = counts_of(a.lists[row]).all();
  const int per_split = split_blocks(count, a.shape.kv_heads);
  const int splits = (count + per_split - 1) / per_split;
  const int64_t query = int64_t{row} * a.shape.heads + head;
  const float2* stats = in.stats + query * max_split;
  const int d = tid % Dim, team = tid / Dim;
  const float* const o = in.o + query * max_split * Dim + d;
  after_previous();

  float first[kFirst];
#pragma unroll
  for (int i = 0; i < kFirst; ++i) {
    const int s = team + i * kTeams;
    first[i] = s < splits ? o[int64_t{s} * Dim] : 0;
  }
  float most = -INFINITY;
  for (int s = tid; s < splits; s += kMergeThreads) most = fmaxf(most, stats[s].x);
  most = block_max<kMergeThreads>(most);
  float total = 0;
  for (int s = tid; s < splits; s += kMergeThreads) {
    const float weight = stats[s].x == -INFINITY ? 0.0f : exp2f(stats[s].x - most);
    weights[s] = weight;
    total += weight * stats[s].y;
  }
  total = block_sum<kMergeThreads>(total);

  float value = 0;
#pragma unroll
  for (int i = 0; i < kFirst; ++i) {
    const int s = team + i * kTeams;
    if (s < splits) value = fmaf(weights[s], first[i], value);
  }
#pragma unroll 8
  for (int s = team + kFirst * kTeams; s < splits; s += kTeams)
    value = fmaf(weights[s], o[int64_t{s} * Dim], value);
  team_sums[team][d] = value;
  __syncthreads();
  if (team > 0) return;
  value = team_sums[0][d];
#pragma unroll
  for (int i = 1; i < kTeams; ++i) value += team_sums[i][d];
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
    launch("decode_attention", merge_row<dim()>, dim3(a.shape.heads, a.rows), kMergeThreads,
           splits * sizeof(float), stream, a, partials, splits);
  });
}

}  // namespace ringtide::kernels::cuda
