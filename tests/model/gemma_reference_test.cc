// Gemma 3 270M against an independent implementation: tests/fixtures/make_reference.py made the
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

struct GemmaReference : ::testing::Test {
  static void SetUpTestSuite() {
    if (testing::gemma3_path().empty()) return;
    loaded = model::Model::load(testing::gemma3_path());
    std::ifstream in(RINGTIDE_FIXTURES "/gemma3_greedy.json");
    fixture = nlohmann::json::parse(in);
  }
  static void TearDownTestSuite() { loaded.reset(); }
  void SetUp() override {
    if (!loaded) GTEST_SKIP() << testing::kNoGemma3;
  }
  static inline std::shared_ptr<const model::Model> loaded;
  static inline nlohmann::json fixture;
};

TEST_F(GemmaReference, TextsBecomeTheExpectedPrompts) {
  const model::Tokenizer& tokenizer = *loaded->tokenizer;
  ASSERT_TRUE(tokenizer.adds_bos());
  for (const auto& c : fixture["cases"]) {
    std::vector<TokenId> prompt = tokenizer.encode(c["text"].get<std::string>());
    prompt.insert(prompt.begin(), tokenizer.bos());
    EXPECT_EQ(prompt, c["prompt"].get<std::vector<TokenId>>()) << c["name"];
  }
}

// Each expected token is fed, so that one near-tie that goes the other way does not end the
// comparison: there alone the two may differ.
TEST_F(GemmaReference, TenPromptsTokenForToken) {
  const double tie = fixture["tie_below"];
  ASSERT_EQ(fixture["cases"].size(), 10u);
  testing::MemoryUnits units;
  model::EngineOptions options;
  options.half_kv = false;
  const auto engine = model::make_cpu_engine(loaded, options, units);
  int total = 0, ties = 0;
  for (const auto& c : fixture["cases"]) {
    const std::vector<TokenId> prompt = c["prompt"], expected = c["tokens"];
    ASSERT_EQ(expected.size(), 48u);
    model::PolicyConfig policy;
    policy.kind = model::PolicyKind::Exact;
    engine->open(1, policy);
    model::BlockPlan plan(policy.block);
    plan.append(static_cast<int64_t>(prompt.size()));
    plan.begin_generation();
    while (const int32_t length = plan.next()) {
      engine->prefill(1, std::span(prompt).subspan(plan.processed(), length));
      plan.taken(length);
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      const TokenId token = engine->sample(1, {});
      const auto logits = engine->logits(1);
      const double behind = logits[token] - logits[expected[i]];
      EXPECT_LT(behind, tie) << c["name"] << ": token " << i << " is " << token << ", expected "
                             << expected[i];
      ties += behind > 0;
      ++total;
      const model::DecodeRow row{1, expected[i]};
      engine->decode({&row, 1});
    }
    engine->close(1);
  }
  std::printf("%d tokens, %d of them near-ties that went the other way\n", total, ties);
}

}  // namespace
}  // namespace ringtide
