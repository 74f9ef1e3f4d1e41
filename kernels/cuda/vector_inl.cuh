// Loads and stores of several bf16 values at once, and their float32 values.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace ringtide::kernels::cuda {

// N values side by side, N even, as they lie in memory: the even ones in the low halves of the
// words. 2 N bytes, up to 16, is the alignment.
template <int N>
struct alignas(2 * N) Bf16s {
  uint32_t words[N / 2];
};

template <int N>
__device__ inline Bf16s<N> load_bf16(const __nv_bfloat16* p) {
  return *reinterpret_cast<const Bf16s<N>*>(p);
}

template <int N>
__device__ inline void to_floats(const Bf16s<N>& x, float (&out)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const uint32_t word = x.words[i / 2];
    out[i] = __uint_as_float(i % 2 ? word & 0xffff0000u : word << 16);
  }
}

template <int N>
__device__ inline void load_floats(const __nv_bfloat16* p, float (&out)[N]) {
  if constexpr (N == 1) {
    out[0] = __bfloat162float(*p);
  } else {
    to_floats(load_bf16<N>(p), out);
  }
}

template <int N>
__device__ inline void store_bf16(__nv_bfloat16* p, const float (&x)[N]) {
  if constexpr (N == 1) {
    *p = __float2bfloat16_rn(x[0]);
  } else {
    Bf16s<N> b;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const __nv_bfloat162 both = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
      b.words[i] = *reinterpret_cast<const uint32_t*>(&both);
    }
    *reinterpret_cast<Bf16s<N>*>(p) = b;
  }
}

}  // namespace ringtide::kernels::cuda
