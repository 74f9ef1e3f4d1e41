// A ring of GPUs as one engine, as the tests of engines see it, over devices that the test program
// names.
#pragma once

#include "kernels/gpu.h"
#include "kernels/ring/plan.h"
#include "model/gpu_ring.h"
#include "tests/model/engine_instances.h"
#include "tests/model/gpu_kind.h"

namespace ringtide::testing {

using OpenShard = std::function<std::shared_ptr<kernels::Gpu>(int shard)>;

inline EngineKind gpu_ring_kind(const char* name, int shards, OpenShard open,
                                std::optional<kernels::ring::Mode> only = {}) {
  EngineKind kind;
  kind.name = name;
  kind.make = [=](auto model, auto options, auto& units) {
    if (options.gpu_memory == 0) options.gpu_memory = int64_t{64} << 20;
    options.pass_tokens = 1024;
    return model::make_gpu_ring_engine(shards, open, std::move(model), options,
                                       {.deadline = std::chrono::milliseconds(20000), .only = only},
                                       units);
  };
  kind.shape = {.layers = 2, .hidden = 64, .heads = 2, .kv_heads = 1, .head_dim = 64, .ffn = 96};
  kind.tolerance = 0.05;  // activations and keys are bf16
  return kind;
}

// The same under all policies, of the shapes of one GPU's tests. Passes of 128 tokens and more are
// shared.
inline EngineKind gpu_ring_of_all(const char* name, int shards, OpenShard open,
                                  int32_t pass_tokens = 64) {
  EngineKind kind = gpu_kind(name, [open] { return open(0); });
  kind.make = [=](auto model, auto options, auto& units) {
    // What one GPU has for its sessions, for those of each kind.
    options.gpu_memory = options.gpu_memory > 0 ? 2 * options.gpu_memory : int64_t{64} << 20;
    options.pass_tokens = pass_tokens;
    return model::make_gpu_ring_engine(shards, open, std::move(model), options,
                                       {.deadline = std::chrono::milliseconds(20000)}, units);
  };
  kind.exact_apart = true;
  return kind;
}

// One session under `infllm` on an engine: prompts of these lengths, each answered. Greedy tokens,
// and after each of them the units that were looked at.
struct Told {
  std::vector<TokenId> tokens;
  std::vector<std::vector<std::pair<int64_t, int64_t>>> units;  // number, layers
};
inline Told tell(Engine& engine, Runner& r, const std::vector<int64_t>& prompts) {
  Told told;
  for (const int64_t n : prompts) {
    r.append(random_tokens(static_cast<uint64_t>(n), n));
    r.finish_prompt();
    for (int i = 0; i < 12; ++i) {
      told.tokens.push_back(r.generate());
      r.run();
      told.units.emplace_back();
      for (const model::UnitUse& use : engine.last_used(r.id))
        told.units.back().emplace_back(use.unit, use.layers);
    }
  }
  return told;
}

// Of a ring of two that passes keys, and of one that passes queries: logits after some turns.
inline std::vector<std::vector<float>> logits_either_way(const OpenShard& open) {
  PolicyConfig p;
  p.kind = PolicyKind::Exact;
  p.window = p.block = 512;
  std::vector<std::vector<float>> logits;
  for (const auto only : {kernels::ring::Mode::PassKv, kernels::ring::Mode::PassQ}) {
    const EngineKind kind = gpu_ring_kind("", 2, open, only);
    const SmallModel m = small_model(3, kind.shape);
    MemoryUnits units;
    const auto engine = kind.make(m.model, EngineOptions{}, units);
    engine->open(1, p);
    Runner r{*engine, 1, BlockPlan(p.block), {}};
    for (const int64_t n : {700, 430}) {
      r.append(random_tokens(static_cast<uint64_t>(n), n));
      r.finish_prompt();
      r.generate();
      r.run();
    }
    logits.push_back(r.logits());
  }
  return logits;
}

// What every ring has to do: gpu_ring_cases.cc.
struct GpuRing : RestoreTest, ::testing::WithParamInterface<EngineKind> {
  GpuRing() : RestoreTest(GetParam().shape, GetParam()) {}
};

}  // namespace ringtide::testing
