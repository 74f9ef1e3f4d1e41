// Sampling of logits that are on the device. The engine's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_inputs.h"
#include "model/history.h"
#include "model/types.h"

namespace ringtide::model {

class GpuSampler {
 public:
  GpuSampler(kernels::Gpu& gpu, int32_t vocabulary);

  // Enqueues the sampling of rows that lie side by side in `logits`, at most kFewRows, each after
  // its sequence's past. Returns whether the logits are no longer what they were: a penalty changes
  // them.
  bool enqueue(float* logits, std::span<const History* const> pasts,
               std::span<const SamplingParams> params);
  // The tokens of the last enqueue(), once the compute queue has been waited for.
  const int32_t* tokens() const { return host_.get(); }

 private:
  kernels::Gpu& gpu_;
  const int32_t vocabulary_;
  GpuInputs inputs_;
  GpuBuffer scratch_, sampled_;
  struct ReleaseHost {
    kernels::Gpu* gpu;
    void operator()(int32_t* p) const { gpu->release_host(p); }
  };
  std::unique_ptr<int32_t, ReleaseHost> host_;
};

}  // namespace ringtide::model
