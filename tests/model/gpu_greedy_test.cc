// The default model on the GPU against the fixtures of its float64 reference, teacher-forced: at each
// place the likeliest token has to be the reference's. Where it is not, the two must be nearer to
// each other than bf16 can tell apart, and are listed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/gpu_load.h"
#include "model/blocks.h"
#include "model/engine.h"
#include "model/model.h"
#include "tests/support/default_model.h"
#include "tests/support/memory_units.h"

namespace ringtide {
namespace {

using model::TokenId;

constexpr double kNoise = 0.25;  // of a logit; they reach 20 to 30

nlohmann::json fixture() {
  const char* folder = std::getenv("RINGTIDE_TEST_FIXTURES");
  std::ifstream file(std::string(folder ? folder : RINGTIDE_FIXTURES) + "/smollm2_greedy.json");
  return nlohmann::json::parse(file);
}

TEST(GpuGreedy, TwentyPromptsTokenForToken) {
  const kernels::GpuChoice device = kernels::open_gpu();
  if (!device.gpu) GTEST_SKIP() << device.reason;
  if (testing::default_model_path().empty()) GTEST_SKIP() << testing::kNoDefaultModel;
  const auto loaded = model::Model::load(testing::default_model_path());
  testing::MemoryUnits units;
  model::EngineOptions options;
  options.gpu_memory = int64_t{8} << 30;
  options.ram_budget = int64_t{1} << 30;
  const auto engine = model::make_gpu_engine(device.gpu, loaded, options, units);
  const nlohmann::json cases = fixture()["cases"];
  int ties = 0, compared = 0;
  for (const auto policy : {model::PolicyKind::Exact, model::PolicyKind::InfLlm})
    for (const auto& c : cases) {
      const std::vector<TokenId> prompt = c["prompt"], expected = c["tokens"];
      model::PolicyConfig config;
      config.kind = policy;
      engine->open(1, config);
      model::BlockPlan plan(config.block);
      plan.append(static_cast<int64_t>(prompt.size()));
      plan.begin_generation();
      std::vector<int32_t> lengths;
      while (const int32_t length = plan.next()) {
        lengths.push_back(length);
        plan.taken(length);
      }
      engine->prefill(1, prompt, lengths);
      for (size_t i = 0; i < expected.size(); ++i) {
        const TokenId got = engine->sample(1, {});
        ++compared;
        if (got != expected[i]) {
          const auto logits = engine->logits(1);
          const double ahead = logits[got] - logits[expected[i]];
          std::printf("%s, %s: token %zu is %d, expected %d, ahead by %.4f\n",
                      to_string(policy).c_str(), c["name"].get<std::string>().c_str(), i, got,
                      expected[i], ahead);
          EXPECT_LT(ahead, kNoise);
          ++ties;
        }
        const model::DecodeRow row{1, expected[i]};
        engine->decode({&row, 1});
      }
      engine->close(1);
    }
  std::printf("%d of %d tokens told apart otherwise\n", ties, compared);
  EXPECT_LT(ties, compared / 50);
}

}  // namespace
}  // namespace ringtide
