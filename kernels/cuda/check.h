// What the device says of a call, as an exception that names it.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace ringtide::kernels::cuda {

struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status));
}
// After a launch.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

}  // namespace ringtide::kernels::cuda
