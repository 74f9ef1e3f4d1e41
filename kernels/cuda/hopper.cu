#include "kernels/cuda/built_for_inl.cuh"
#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper.h"

namespace ringtide::kernels::cuda {

bool is_hopper() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device");
  return built_for(900) && major == 9 && minor == 0;
}

}  // namespace ringtide::kernels::cuda
