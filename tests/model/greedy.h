// The greedy tokens after a prompt, by an engine of its own under exact attention.
#pragma once

#include <memory>
#include <vector>

#include "model/engine.h"
#include "model/model.h"
#include "tests/support/memory_units.h"

namespace ringtide::testing {

inline std::vector<model::TokenId> continue_greedily(
    const std::shared_ptr<const model::Model>& loaded, const std::vector<model::TokenId>& prompt,
    size_t n) {
  MemoryUnits units;
  model::EngineOptions options;
  options.threads = 2;
  options.ram_budget = int64_t{64} << 20;
  options.half_kv = false;
  const auto engine = model::make_cpu_engine(loaded, options, units);
  model::PolicyConfig policy;
  policy.kind = model::PolicyKind::Exact;
  engine->open(1, policy);
  engine->prefill(1, prompt);
  std::vector<model::TokenId> tokens;
  while (tokens.size() < n) {
    tokens.push_back(engine->sample(1, {}));
    const model::DecodeRow row{1, tokens.back()};
    engine->decode({&row, 1});
  }
  return tokens;
}

}  // namespace ringtide::testing
