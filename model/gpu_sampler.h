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

  // What the sampling of rows needs to know, at most kFewRows, each after its sequence's past.
  void begin(std::span<const History* const> pasts, std::span<const SamplingParams> params);
  // Enqueues the sampling of n of them, from `first` on, whose logits lie side by side. A penalty
  // changes those.
  void sample(float* logits, int64_t first, int64_t n);
  // Whether there is one.
  bool penalises() const { return penalises_; }
  // All of them go to the host.
  void fetch();
  // The tokens: on the device, and, once the compute queue has been waited for, on the host.
  const int32_t* on_device() const { return sampled_.as<int32_t>(); }
  const int32_t* tokens() const { return host_.get(); }

 private:
  kernels::Gpu& gpu_;
  const int32_t vocabulary_;
  GpuInputs inputs_;
  GpuInputs::Array<kernels::cuda::SampleRow> rows_;
  int64_t count_ = 0;
  bool penalises_ = false;
  GpuBuffer scratch_, sampled_;
  struct ReleaseHost {
    kernels::Gpu* gpu;
    void operator()(int32_t* p) const { gpu->release_host(p); }
  };
  std::unique_ptr<int32_t, ReleaseHost> host_;
};

}  // namespace ringtide::model
