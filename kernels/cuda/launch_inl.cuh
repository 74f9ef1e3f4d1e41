// Launches that overlap: a kernel may start while the one before it in the stream still runs, and
// waits for it inside (programmatic dependent launch, on 9.0 and later in a build for them; elsewhere
// as usual). What a
// launch costs is then hidden, and what depends on nobody, as weights, can be loaded meanwhile.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "kernels/cuda/built_for_inl.cuh"
#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {

// Every thread of a kernel that launch() starts calls this before it touches memory that another
// kernel writes, or that another reads and it writes. All before the previous kernel of the stream
// is then done, and so is that one.
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
// The next kernel may start once all blocks have called this.
__device__ inline void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}
// What the next kernel reads before it waits may then be anything that is older than the previous
// kernel.
__device__ inline void after_previous() {
  wait_for_previous();
  let_next_start();
}
// In front of products, which read only weights before they wait: they take the place of the
// previous kernel's blocks as these end.
__device__ inline void before_previous_ends() {
  let_next_start();
  wait_for_previous();
}

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared,
            cudaStream_t stream, Args&&... args) {
  int device = 0, major = 0;
  check(cudaGetDevice(&device), name);
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), name);
  cudaLaunchAttribute overlap;
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = built_for(900) && major >= 9 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), name);
}

}  // namespace ringtide::kernels::cuda
