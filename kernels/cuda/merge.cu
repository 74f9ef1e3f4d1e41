#include "kernels/cuda/attention.h"
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/rotate_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kWarps = 8;

// One warp a row.
template <int Dim>
__global__ void __launch_bounds__(kWarps * 32)
    merge_rows(bf16* o, float* lse, const bf16* o2, const float* lse2, int64_t rows) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const float one = lse[row], two = lse2[row];
  if (two == -INFINITY) return;
  const float most = fmaxf(one, two);
  const float w1 = expf(one - most), w2 = expf(two - most);
  const float part = 1.0f / (w1 + w2);
  HeadVector<Dim> a, b;
  a.load(o + row * Dim);
  b.load(o2 + row * Dim);
#pragma unroll
  for (int i = 0; i < HeadVector<Dim>::N; ++i) {
    a.low[i] = (w1 * a.low[i] + w2 * b.low[i]) * part;
    a.high[i] = (w1 * a.high[i] + w2 * b.high[i]) * part;
  }
  a.store(o + row * Dim);
  __syncwarp();
  if (threadIdx.x % 32 == 0) lse[row] = most + logf(w1 + w2);
}

}  // namespace

void merge(bf16* o, float* lse, const bf16* o2, const float* lse2, int64_t rows, int head_dim,
           cudaStream_t stream) {
  if (rows == 0) return;
  by_head_dim(head_dim, [&](auto dim) {
    merge_rows<dim()>
        <<<static_cast<unsigned>((rows + kWarps - 1) / kWarps), kWarps * 32, 0, stream>>>(
            o, lse, o2, lse2, rows);
  });
  check_launch("merge");
}

}  // namespace ringtide::kernels::cuda
