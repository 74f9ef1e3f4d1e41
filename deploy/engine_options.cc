#include "deploy/engine_options.h"

#include <algorithm>

namespace ringtide::deploy {

namespace {

model::ActivationType activation_type(const std::string& name) {
  if (name == "f32") return model::ActivationType::F32;
  return name == "int8" ? model::ActivationType::Int8 : model::ActivationType::Int16;
}

}  // namespace

model::EngineOptions engine_options(const ServerOptions& options, const Machine& machine) {
  // Shards of this machine share its cores and memory, if nothing else is said.
  const int shards = options.cluster.shards;
  return {.threads = options.threads > 0 ? options.threads : std::max(1, machine.cores / shards),
          .ram_budget = options.ram_budget > 0 ? options.ram_budget : machine.ram / 2 / shards,
          .half_kv = options.kv_type == "f16",
          .activations = activation_type(options.activations),
          .unit_copies = options.cluster.unit_copies,
          .gpu_memory = options.gpu_memory};
}

EngineSetup engine_over_store(const ServerOptions& options, const Machine& machine) {
  EngineSetup setup{engine_options(options, machine), {}};
  setup.memory = split_memory(setup.engine.ram_budget);
  setup.engine.ram_elsewhere = setup.memory.unwritten + setup.memory.store;
  return setup;
}

}  // namespace ringtide::deploy
