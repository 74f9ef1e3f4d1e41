// What the processor makes of a model: prompts, and generation at several depths of context, alone
// and for several sessions at once, beside what reading the weights once a token would allow.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "deploy/bench_figures.h"
#include "model/engine.h"
#include "model/engine_speed.h"
#include "model/model.h"

namespace ringtide::deploy {

struct ProcessorBench {
  std::shared_ptr<const model::Model> model;
  double model_seconds = 0;  // that reading the file took
  model::EngineOptions engine;
  model::SpeedPlan plan;
  std::vector<int64_t> prompts = {128, 512, 2048};  // tokens
  std::vector<int64_t> contexts = {0, 2048, 8192};  // tokens before generation
  std::vector<int64_t> batches = {1, 8};            // sessions
};

// Packs the weights, and adds a figure for that and for each of these.
void bench_processor(const ProcessorBench& bench, Figures& figures);

}  // namespace ringtide::deploy
