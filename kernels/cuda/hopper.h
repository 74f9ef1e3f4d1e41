// Whether the device in use is a Hopper, whose own instructions some kernels are written in.
#pragma once

#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {

inline bool is_hopper() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "device");
  return major == 9 && minor == 0;
}

}  // namespace ringtide::kernels::cuda
