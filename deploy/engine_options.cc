#include "deploy/engine_options.h"

namespace ringtide::deploy {

namespace {

model::ActivationType activation_type(const std::string& name) {
  if (name == "f32") return model::ActivationType::F32;
  return name == "int8" ? model::ActivationType::Int8 : model::ActivationType::Int16;
}

}  // namespace

model::EngineOptions engine_options(const ServerOptions& options, const Machine& machine) {
  return {.threads = options.threads > 0 ? options.threads : machine.cores,
          .ram_budget = options.ram_budget > 0 ? options.ram_budget : machine.ram / 2,
          .half_kv = options.kv_type == "f16",
          .activations = activation_type(options.activations),
          .gpu_memory = options.gpu_memory};
}

}  // namespace ringtide::deploy
