// The default model against an independent implementation: tests/fixtures/make_reference.py made the
// expected tokens with a float64 forward pass of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "model/blocks.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "tests/support/default_model.h"
#include "tests/support/memory_units.h"

namespace ringtide {
namespace {

using model::TokenId;

struct GreedyReference : ::testing::Test {
  static void SetUpTestSuite() {
    if (testing::default_model_path().empty()) return;
    loaded = model::Model::load(testing::default_model_path());
    std::ifstream file(RINGTIDE_FIXTURES "/smollm2_greedy.json");
    fixture = nlohmann::json::parse(file);
  }
  void SetUp() override {
    if (!loaded) GTEST_SKIP() << testing::kNoDefaultModel;
  }
  // Greedy tokens after `prompt`, with the gap between the two best logits at each.
  std::vector<std::pair<TokenId, float>> continue_greedily(const std::vector<TokenId>& prompt,
                                                           model::PolicyKind kind, int64_t n,
                                                           model::EngineOptions options = {}) {
    testing::MemoryUnits units;
    options.half_kv = false;
    auto engine = model::make_cpu_engine(loaded, options, units);
    model::PolicyConfig policy;
    policy.kind = kind;
    engine->open(1, policy);
    model::BlockPlan plan(policy.block);
    plan.append(static_cast<int64_t>(prompt.size()));
    plan.begin_generation();
    while (const int32_t length = plan.next()) {
      engine->prefill(1, std::span(prompt).subspan(plan.processed(), length));
      plan.taken(length);
    }
    std::vector<std::pair<TokenId, float>> tokens;
    for (int64_t i = 0; i < n; ++i) {
      const TokenId t = engine->sample(1, {});
      std::vector<float> top(engine->logits(1).begin(), engine->logits(1).end());
      std::nth_element(top.begin(), top.begin() + 1, top.end(), std::greater<>());
      tokens.push_back({t, engine->logits(1)[t] - top[1]});
      const model::DecodeRow row{1, t};
      engine->decode({&row, 1});
    }
    return tokens;
  }
  static inline std::shared_ptr<const model::Model> loaded;
  static inline nlohmann::json fixture;
};

// With what the engine multiplies by default, and with float32.
struct TwentyPrompts : GreedyReference, ::testing::WithParamInterface<model::ActivationType> {};
INSTANTIATE_TEST_SUITE_P(Activations, TwentyPrompts,
                         ::testing::Values(model::EngineOptions().activations,
                                           model::ActivationType::F32));

TEST_P(TwentyPrompts, TokenForToken) {
  model::EngineOptions options;
  options.activations = GetParam();
  const double tie = fixture["tie_below"];
  ASSERT_EQ(fixture["cases"].size(), 20u);
  for (const auto& c : fixture["cases"]) {
    const std::vector<TokenId> prompt = c["prompt"], expected = c["tokens"];
    ASSERT_EQ(expected.size(), 64u);
    if (!c["special"].get<bool>()) {
      EXPECT_EQ(loaded->tokenizer->encode(c["text"].get<std::string>()), prompt) << c["name"];
    }
    const auto got = continue_greedily(prompt, model::PolicyKind::Exact, 64, options);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (got[i].first == expected[i]) continue;
      // After a tie went the other way the texts differ: say so, and compare no further.
      if (got[i].second < tie) {
        std::printf("%s: tie at token %zu\n", c["name"].get<std::string>().c_str(), i);
        break;
      }
      FAIL() << c["name"] << ": token " << i << " is " << got[i].first << ", expected "
             << expected[i] << ", ahead by " << got[i].second;
    }
  }
}

TEST_F(GreedyReference, EveryPolicyIsTheSameWithinTheWindow) {
  for (const char* name : {"long", "chat"})
    for (const auto& c : fixture["cases"]) {
      if (c["name"] != name) continue;
      const auto exact = continue_greedily(c["prompt"], model::PolicyKind::Exact, 24);
      for (auto kind : {model::PolicyKind::Streaming, model::PolicyKind::InfLlm})
        EXPECT_EQ(continue_greedily(c["prompt"], kind, 24), exact) << name;
    }
}

}  // namespace
}  // namespace ringtide
