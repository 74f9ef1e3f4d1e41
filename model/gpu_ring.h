// Engines of GPUs that hold one model's sequences together.
//
// Under `exact` the keys and values of the whole past are dealt among the GPUs, and so is the work of
// a prompt; nothing is kept in a store: a sequence that is restored runs again from its tokens.
//
// Under other policies every GPU has the window and the index, and attends to the pages and units that
// are its own: each is one GPU's, in host memory and over that GPU's link. The index has the same
// bytes everywhere, so each chooses the same units among all there are. Rows of long passes are
// shared; a generated token is computed by all.
//
// A shard's engine is an engine of which every call is collective: all shards make the same calls
// in the same order, and have the same results. What a shard cannot do alone it throws like all
// others (OutOfBudget, ModelError); where one breaks, all end in kernels::ring::RingError, and the
// ring is over.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "kernels/ring/cost_model.h"
#include "model/engine.h"

namespace ringtide::kernels::cuda {
class RingLink;  // kernels/cuda/ring_link.h
}
namespace ringtide::kernels::ring {
enum class Mode;  // kernels/ring/plan.h
}

namespace ringtide::model {

struct GpuRingOptions {
  // Of the memory for sessions, what those under `exact` have; 0, or 1: there is none for them, or
  // for the others.
  double exact_share = 0.5;
  // The longest wait for another GPU, and so longer than any pass. Of rings made here.
  std::chrono::milliseconds deadline{60000};
  // What passes by where tokens are split; nothing: what is faster by kernels/ring/cost_model.h.
  // Queries pass on rings of two, in passes that are not too long for it. Bits are the same.
  std::optional<kernels::ring::Mode> only = std::nullopt;
  // Of two H100 SXM over NVLink, measured by tests/bench/cuda_ring_bench.cc.
  kernels::ring::Rates rates{.attention_flops = 6.2e14,
                             .hop_seconds = 95e-6,
                             .link_bytes = 3.79e11,
                             .link_seconds = 29e-6,
                             .memory_bytes = 3.02e12,
                             .gather_seconds = 12e-6,
                             .units = 132,
                             .tile = 128};
};

// The engine of one shard, on the thread of its GPU. pass_tokens and ram_budget of the options are
// those of all shards together. `units`, which all shards of a ring share, outlives it. Throws
// ModelError where the model cannot run there or does not fit.
std::unique_ptr<Engine> make_gpu_shard_engine(std::shared_ptr<kernels::Gpu> gpu,
                                              std::shared_ptr<const Model> model,
                                              const EngineOptions& options,
                                              const GpuRingOptions& ring,
                                              kernels::cuda::RingLink& link, UnitStore& units);

// All shards in this process, a thread and a GPU each, as one engine. open(shard) is called in that
// shard's thread.
std::unique_ptr<Engine> make_gpu_ring_engine(
    int shards, const std::function<std::shared_ptr<kernels::Gpu>(int shard)>& open,
    std::shared_ptr<const Model> model, const EngineOptions& options, const GpuRingOptions& ring,
    UnitStore& units);

}  // namespace ringtide::model
