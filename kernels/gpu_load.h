// Finding a GPU at run time: the plug-in libringtide_cuda.so is opened where there is one.
#pragma once

#include <memory>
#include <string>

#include "kernels/gpu.h"

namespace ringtide::kernels {

struct GpuChoice {
  std::shared_ptr<Gpu> gpu;
  std::string reason;  // where there is none: why, for a person
};

// Opens GPU `index` of those visible, for the calling thread. The plug-in is the file that
// RINGTIDE_CUDA_PLUGIN names, else libringtide_cuda.so beside this program or in ../lib.
GpuChoice open_gpu(int index = 0);

}  // namespace ringtide::kernels
