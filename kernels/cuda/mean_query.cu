#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/rotate_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kWarps = 8;

// One block a head of a row: warp w sums every kWarps-th query from w on.
template <int Dim>
__global__ void __launch_bounds__(kWarps * 32)
    mean(int heads, const bf16* q, const int32_t* begin, const int32_t* angle, const float* cos,
         const float* sin, bf16* out) {
  after_previous();
  using Head = HeadVector<Dim>;
  __shared__ Head parts[kWarps][32];
  const int head = blockIdx.x, row = blockIdx.y;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first = begin[row], end = begin[row + 1];
  Head sum{};
#pragma unroll 4
  for (int i = first + warp; i < end; i += kWarps) {
    Head x;
    x.load(q + (int64_t{i} * heads + head) * Dim);
#pragma unroll
    for (int j = 0; j < Head::N; ++j) {
      sum.low[j] += x.low[j];
      sum.high[j] += x.high[j];
    }
  }
  parts[warp][lane] = sum;
  __syncthreads();
  if (warp > 0) return;
  const float n = static_cast<float>(max(end - first, 1));
#pragma unroll
  for (int w = 1; w < kWarps; ++w) {
#pragma unroll
    for (int j = 0; j < Head::N; ++j) {
      sum.low[j] += parts[w][lane].low[j];
      sum.high[j] += parts[w][lane].high[j];
    }
  }
#pragma unroll
  for (int j = 0; j < Head::N; ++j) {
    sum.low[j] /= n;
    sum.high[j] /= n;
  }
  const int64_t at = int64_t{angle[row]} * (Dim / 2);
  sum.rotated(cos + at, sin + at).store(out + (int64_t{row} * heads + head) * Dim);
}

}  // namespace

void mean_query(const Heads& shape, const bf16* q, const int32_t* begin, const int32_t* angle,
                int32_t rows, const float* cos, const float* sin, bf16* out, cudaStream_t stream) {
  if (rows == 0) return;
  by_head_dim(shape.head_dim, [&](auto dim) {
    launch("mean_query", mean<dim()>, dim3(shape.heads, rows), kWarps * 32, 0, stream, shape.heads,
           q, begin, angle, cos, sin, out);
  });
}

}  // namespace ringtide::kernels::cuda
