// Which devices compute: the processor, or NVIDIA GPUs where there are some that serve the model;
// on a ring, one a shard.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deploy/options.h"
#include "kernels/gpu.h"
#include "model/engine.h"
#include "model/policy_config.h"

namespace ringtide::deploy {

struct Device {
  std::vector<int> gpus;  // of each shard; empty: the processor computes
  kernels::GpuInfo info;  // of the first GPU, used or not; no name: none was found
  std::string note;       // why no GPU is used; empty where one is, or none was asked for

  bool on_gpu() const { return !gpus.empty(); }
  // "NVIDIA H200", "2 x NVIDIA H200".
  std::string name() const;
};

// Looks as --device says: a GPU for each shard, those of the list, or from number N on. Throws
// Failure where cuda was asked for and cannot be had.
Device find_device(const std::string& wanted, int shards = 1);
// Whether it serves this model and policy; otherwise the processor takes over, with a note, or
// Failure is thrown where cuda was asked for.
void require_serves(Device& device, const std::string& wanted, const model::Model& model,
                    const model::PolicyConfig& policy, const model::EngineOptions& options);
// For the calling thread. Throws ModelError where it is there no more.
std::shared_ptr<kernels::Gpu> open_gpu(int number);
// The most that a shard may take of its GPU. Shards that are on one GPU share it.
int64_t gpu_memory(const Device& device, const model::EngineOptions& options);

// "NVIDIA H100 80GB HBM3 (78.6 GiB free)".
std::string show(const kernels::GpuInfo& info);

}  // namespace ringtide::deploy
