// What the engines of one GPU share, and how they are made.
#pragma once

#include <memory>

#include "model/engine.h"
#include "model/gpu_ring.h"
#include "model/gpu_ring_link.h"
#include "model/gpu_weights.h"

namespace ringtide::model {

struct GpuShared {
  std::shared_ptr<kernels::Gpu> gpu;
  std::shared_ptr<const Model> model;
  std::shared_ptr<const GpuWeights> weights;
  EngineOptions options;
  GpuRingLink* ring = nullptr;  // outlives the engines; null: alone
};

// Of sessions that keep what they need in a window and units: the engine of a GPU by itself too, which
// serves `exact` as well. `bytes` of the device are for sessions, the same on all shards.
std::unique_ptr<Engine> make_gpu_window_engine(const GpuShared& shared, int64_t bytes, UnitStore& units);
// Of sessions under `exact` on a ring: `blocks` of memory (gpu_ring_memory.h), the same on all shards.
std::unique_ptr<Engine> make_gpu_exact_engine(const GpuShared& shared, int64_t blocks,
                                              const GpuRingOptions& options);

}  // namespace ringtide::model
