// Which device computes: the processor, or an NVIDIA GPU where there is one that serves the model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "deploy/options.h"
#include "kernels/gpu.h"
#include "model/engine.h"
#include "model/policy_config.h"

namespace ringtide::deploy {

struct Device {
  bool gpu = false;
  int index = 0;
  kernels::GpuInfo info;  // of the GPU, used or not; no name: none was found
  std::string note;       // why no GPU is used; empty where one is, or none was asked for
};

// Looks as --device says: "auto", "cpu", "cuda" or "cuda:N". Throws Failure where cuda was asked for
// and cannot be had.
Device find_device(const std::string& wanted);
// Whether it serves this model and policy; otherwise the processor takes over, with a note, or
// Failure is thrown where cuda was asked for.
void require_serves(Device& device, const std::string& wanted, const model::Model& model,
                    const model::PolicyConfig& policy, const model::EngineOptions& options);

// "NVIDIA H100 80GB HBM3 (78.6 GiB free)".
std::string show(const kernels::GpuInfo& info);

}  // namespace ringtide::deploy
