// A ring of GPUs beside one of them: prefill and decoding of one long session under `exact`, and under
// `infllm`; and, on two GPUs, appends to it by either way of the ring, and by the one that is chosen.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "deploy/bench_figures.h"
#include "model/engine.h"
#include "model/model.h"

namespace ringtide::deploy {

struct RingBench {
  std::shared_ptr<const model::Model> model;
  model::EngineOptions engine;  // pass_tokens: of all GPUs together
  std::vector<int> gpus;        // one a shard
  int64_t longest = 0;          // tokens
  bool prefill = true, decode = true, append = true, retrieve = true;
};
// One GPU is measured where it can hold the session. Throws Failure where a GPU is not there.
void bench_ring(const RingBench& bench, Figures& figures);

}  // namespace ringtide::deploy
