// Loads and stores of several bf16 values at once, and their float32 values.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace ringtide::kernels::cuda {

// N values side by side; N * 2 bytes is the alignment.
template <int N>
struct alignas(2 * N) Bf16s {
  __nv_bfloat16 v[N];
};

template <int N>
__device__ inline Bf16s<N> load_bf16(const __nv_bfloat16* p) {
  return *reinterpret_cast<const Bf16s<N>*>(p);
}

template <int N>
__device__ inline void to_floats(const Bf16s<N>& x, float (&out)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) out[i] = __bfloat162float(x.v[i]);
}

template <int N>
__device__ inline void load_floats(const __nv_bfloat16* p, float (&out)[N]) {
  to_floats(load_bf16<N>(p), out);
}

template <int N>
__device__ inline void store_bf16(__nv_bfloat16* p, const float (&x)[N]) {
  Bf16s<N> b;
#pragma unroll
  for (int i = 0; i < N; ++i) b.v[i] = __float2bfloat16_rn(x[i]);
  *reinterpret_cast<Bf16s<N>*>(p) = b;
}

}  // namespace ringtide::kernels::cuda
