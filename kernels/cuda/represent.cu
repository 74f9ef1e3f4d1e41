#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/lookup.h"
#include "kernels/cuda/reduce_inl.cuh"
#include "kernels/cuda/vector_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxUnit = 1024;

// One block a head of a layer. Scores: the sums that were taken key by key, and the logit of the
// sum of the queries of whole pages.
template <int Dim>
__global__ void __launch_bounds__(kThreads) represent_unit(const Represent a) {
  __shared__ float query[Dim];
  __shared__ float scores[kMaxUnit];
  __shared__ int order[kMaxUnit];
  const int head = blockIdx.x, layer = a.first_layer + static_cast<int>(blockIdx.y);
  const int heads = a.shape.heads, kv_head = head / a.shape.group();
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int64_t at = int64_t{layer} * heads + head;
  const int64_t plane = int64_t{layer} * a.layer_rows + int64_t{kv_head} * a.unit;
  const bf16* const raw = a.arena.base + (a.raw_row + plane) * Dim;
  const bf16* const rotated = a.arena.base + (a.rotated_row + plane) * Dim;

  for (int d = tid; d < Dim; d += kThreads) {
    float sum = 0;
#pragma unroll 8
    for (int page = 0; page < a.whole; ++page) sum += a.query_sums[page][at * Dim + d];
    query[d] = sum;
  }
  __syncthreads();
  constexpr int kN = Dim / 32;
  for (int token = a.begin + warp; token < a.unit; token += kWarps) {
    float key[kN], logit = 0;
    load_floats(rotated + token * Dim + lane * kN, key);
#pragma unroll
    for (int i = 0; i < kN; ++i) logit = fmaf(key[i], query[lane * kN + i], logit);
    logit = warp_sum(logit);
    if (lane == 0) {
      const int64_t key = at * a.unit + token;
      const float score = a.own_sums[key] + a.leaving_sums[key] + a.scale * logit;
      scores[token] = isnan(score) ? -INFINITY : score;
    }
  }
  __syncthreads();
  const int take = min(a.take, a.unit - a.begin);
  for (int token = a.begin + tid; token < a.unit; token += kThreads) {
    int better = 0;
    for (int other = a.begin; other < a.unit; ++other) {
      better += scores[other] > scores[token] || (scores[other] == scores[token] && other < token);
    }
    if (better < take) order[better] = token;
  }
  __syncthreads();
  for (int d = tid; d < Dim; d += kThreads) {
    float sum = 0;
    for (int i = 0; i < take; ++i) sum += __bfloat162float(raw[order[i] * Dim + d]);
    if (take > 0) sum /= static_cast<float>(take);
    if (a.out32) a.out32[at * Dim + d] = sum;
    if (a.group)
      a.group[((int64_t{layer} * kIndexGroup + a.slot) * heads + head) * Dim + d] =
          __float2bfloat16_rn(sum);
  }
}

}  // namespace

void represent(const Represent& a, cudaStream_t stream) {
  const int layers = a.end_layer - a.first_layer;
  if (layers <= 0) return;
  if (a.unit > kMaxUnit)
    throw std::invalid_argument("represent: a unit of " + std::to_string(a.unit) +
                                " tokens; at most " + std::to_string(kMaxUnit));
  by_head_dim(a.shape.head_dim, [&](auto dim) {
    represent_unit<dim()><<<dim3(a.shape.heads, layers), kThreads, 0, stream>>>(a);
  });
  check_launch("represent");
}

}  // namespace ringtide::kernels::cuda
