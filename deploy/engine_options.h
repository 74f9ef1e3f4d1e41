// What an engine's flags come to on this machine.
#pragma once

#include "deploy/machine.h"
#include "deploy/memory_split.h"
#include "deploy/options.h"
#include "model/engine.h"

namespace ringtide::deploy {

model::EngineOptions engine_options(const ServerOptions& options, const Machine& machine);

// The same of an engine over a store of its own, which takes its part of the budget.
struct EngineSetup {
  model::EngineOptions engine;
  MemorySplit memory;
};
EngineSetup engine_over_store(const ServerOptions& options, const Machine& machine);

}  // namespace ringtide::deploy
