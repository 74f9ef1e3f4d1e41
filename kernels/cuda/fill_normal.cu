#include "kernels/cuda/check.h"
#include "kernels/cuda/weights.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// The finalizer of SplitMix64: G. L. Steele et al., "Fast splittable pseudorandom number
// generators" (OOPSLA 2014).
__device__ uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

// Box and Muller's transform of two uniform numbers.
__global__ void fill(bf16* dst, int64_t n, float deviation, uint64_t seed) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  const uint64_t bits = mix(mix(seed) + 0x9e3779b97f4a7c15ull * (static_cast<uint64_t>(i) + 1));
  const float u = (static_cast<float>(bits >> 40) + 1.0f) * 0x1p-24f;  // (0, 1]
  const float v = static_cast<float>(bits & 0xffffffu) * 0x1p-24f;
  dst[i] = __float2bfloat16_rn(deviation * sqrtf(-2.0f * logf(u)) * cospif(2.0f * v));
}

}  // namespace

void fill_normal(bf16* dst, int64_t n, float deviation, uint64_t seed, cudaStream_t stream) {
  if (n == 0) return;
  fill<<<static_cast<unsigned>((n + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      dst, n, deviation, seed);
  check_launch("fill_normal");
}

}  // namespace ringtide::kernels::cuda
