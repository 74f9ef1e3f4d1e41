// One head's vector held by a warp, and RoPE on it: the pair (x[j], x[j + Dim/2]) by angle j.
#pragma once

#include "kernels/cuda/reduce_inl.cuh"
#include "kernels/cuda/vector_inl.cuh"

namespace ringtide::kernels::cuda {

// Lane l holds N elements of the lower half from N * l on, and those Dim/2 above.
template <int Dim>
struct HeadVector {
  static constexpr int N = Dim / 64;
  float low[N], high[N];

  __device__ static int first() { return static_cast<int>(threadIdx.x % 32) * N; }

  __device__ void load(const __nv_bfloat16* x) {
    load_floats(x + first(), low);
    load_floats(x + first() + Dim / 2, high);
  }
  __device__ void store(__nv_bfloat16* y) const {
    store_bf16(y + first(), low);
    store_bf16(y + first() + Dim / 2, high);
  }
  // As memory would keep it.
  __device__ void round() {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      low[i] = __bfloat162float(__float2bfloat16_rn(low[i]));
      high[i] = __bfloat162float(__float2bfloat16_rn(high[i]));
    }
  }
  __device__ void add(const float* bias) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      low[i] += bias[first() + i];
      high[i] += bias[first() + Dim / 2 + i];
    }
  }
  // All lanes.
  __device__ void normalise(const float* weight, float eps) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) squares = fmaf(low[i], low[i], fmaf(high[i], high[i], squares));
    const float factor = 1.0f / sqrtf(warp_sum(squares) / Dim + eps);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      low[i] *= factor * weight[first() + i];
      high[i] *= factor * weight[first() + Dim / 2 + i];
    }
  }
  // cos, sin: a row of the table. Written out, so that every caller's bits are the same.
  __device__ HeadVector rotated(const float* cos, const float* sin) const {
    HeadVector y;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float c = cos[first() + i], s = sin[first() + i];
      y.low[i] = __fmaf_rn(low[i], c, -__fmul_rn(high[i], s));
      y.high[i] = __fmaf_rn(high[i], c, __fmul_rn(low[i], s));
    }
    return y;
  }
};

}  // namespace ringtide::kernels::cuda
