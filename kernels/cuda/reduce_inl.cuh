// Sums and maxima over a warp and a block. The order of additions is fixed by the number of
// threads.
#pragma once

#include <cstdint>

namespace ringtide::kernels::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// Over aligned groups of Width lanes; every lane gets the result. All lanes of the warp take part.
template <int Width = 32>
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = Width / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
template <int Width = 32>
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = Width / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

// Every thread gets the result. Threads is the block's size, a multiple of 32 up to 1024; all of
// them call, and may call again at once.
template <int Threads>
__device__ inline float block_sum(float x) {
  __shared__ float parts[Threads / 32];
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  const int lane = threadIdx.x % 32;
  return warp_sum(lane < Threads / 32 ? parts[lane] : 0.0f);
}
template <int Threads>
__device__ inline float block_max(float x) {
  __shared__ float parts[Threads / 32];
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  const int lane = threadIdx.x % 32;
  return warp_max(lane < Threads / 32 ? parts[lane] : -INFINITY);
}

}  // namespace ringtide::kernels::cuda
