#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.h"

namespace ringtide::kernels::cuda {
namespace {

__global__ void angles(const double* inv_freq, int32_t half, int64_t position, int64_t n,
                       float* cos_out, float* sin_out) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= n * half) return;
  double s, c;
  sincos(static_cast<double>(position + at / half) * inv_freq[at % half], &s, &c);
  cos_out[at] = static_cast<float>(c);
  sin_out[at] = static_cast<float>(s);
}

}  // namespace

void rope_angles(const double* inv_freq, int32_t half, int64_t position, int64_t n, float* cos,
                 float* sin, cudaStream_t stream) {
  if (n * half == 0) return;
  constexpr int kThreads = 256;
  angles<<<(n * half + kThreads - 1) / kThreads, kThreads, 0, stream>>>(inv_freq, half, position, n,
                                                                       cos, sin);
  check_launch("rope_angles");
}

}  // namespace ringtide::kernels::cuda
