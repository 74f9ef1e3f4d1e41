// Engines of GPUs that hold one model's sequences together, under `exact`.
//
// A shard's engine is an engine of which every call is collective: all shards make the same calls
// in the same order, and have the same results. What a shard cannot do alone it throws like all
// others (OutOfBudget, ModelError); where one breaks, all end in kernels::ring::RingError, and the
// ring is over. Nothing is kept in a store: a sequence that is restored runs again from its tokens.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

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
  // The longest wait for another GPU, and so longer than any pass. Of rings made here.
  std::chrono::milliseconds deadline{60000};
  // What passes by where tokens are split; nothing: what is faster by kernels/ring/cost_model.h.
  // Queries pass on rings of two, in passes that are not too long for it. Bits are the same.
  std::optional<kernels::ring::Mode> only;
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

// The engine of one shard, on the thread of its GPU. pass_tokens of the options are those of all
// shards together. Throws ModelError where the model cannot run there or does not fit.
std::unique_ptr<Engine> make_gpu_shard_engine(std::shared_ptr<kernels::Gpu> gpu,
                                              std::shared_ptr<const Model> model,
                                              const EngineOptions& options,
                                              const GpuRingOptions& ring,
                                              kernels::cuda::RingLink& link);

// All shards in this process, a thread and a GPU each, as one engine. open(shard) is called in that
// shard's thread.
std::unique_ptr<Engine> make_gpu_ring_engine(
    int shards, const std::function<std::shared_ptr<kernels::Gpu>(int shard)>& open,
    std::shared_ptr<const Model> model, const EngineOptions& options, const GpuRingOptions& ring);

// Why a ring of GPUs does not serve a session's policy; empty: it does.
std::string gpu_ring_refusal(const PolicyConfig& policy, const EngineOptions& options);

}  // namespace ringtide::model
