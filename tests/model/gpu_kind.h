// The GPU's engine as the tests of engines see it, over a device that the test program names.
#pragma once

#include "kernels/gpu.h"
#include "tests/model/engine_instances.h"

namespace ringtide::testing {

using OpenGpu = std::function<std::shared_ptr<kernels::Gpu>()>;

inline EngineKind gpu_kind(const char* name, OpenGpu open) {
  EngineKind kind;
  kind.name = name;
  kind.make = [open](auto model, auto options, auto& units) {
    if (options.gpu_memory == 0) options.gpu_memory = int64_t{64} << 20;
    options.pass_tokens = 64;  // several blocks, and fewer than the tests run at once
    return model::make_gpu_engine(open(), std::move(model), options, units);
  };
  kind.shape = {.hidden = 64, .heads = 4, .kv_heads = 2, .head_dim = 64, .ffn = 96};
  kind.tolerance = 0.05;  // activations and keys are bf16
  kind.tie = 0.02;
  kind.least_budget = 40 << 10;
  kind.least_unit = 8;
  kind.true_positions = false;
  kind.keeps_exact = true;
  kind.joins_blocks = false;
  return kind;
}

// Tests of what only this engine does: gpu_engine_cases.cc.
struct GpuEngine : RestoreTest, ::testing::WithParamInterface<EngineKind> {
  GpuEngine() : RestoreTest(GetParam().shape, GetParam()) {}
};

}  // namespace ringtide::testing
