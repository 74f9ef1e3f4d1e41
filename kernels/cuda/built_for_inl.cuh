// Which architectures a CUDA source is compiled for.
#pragma once

#include <initializer_list>

namespace ringtide::kernels::cuda {

// As __CUDA_ARCH__ numbers them, or a later one.
constexpr bool built_for(int architecture) {
  for (const int one : {__CUDA_ARCH_LIST__})
    if (one >= architecture) return true;
  return false;
}

}  // namespace ringtide::kernels::cuda
