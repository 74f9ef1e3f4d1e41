// What sets the architectures apart, in the engine: against the float64 reference under every
// policy, and through chunking, batching and restoring.
#include <cstring>

#include "tests/model/engine_fixture.h"

namespace ringtide::testing {
namespace {

struct Member {
  const char* name;
  SmallShape shape;
};

// Windows of sliding layers lie below and above that of the policy (32), on and off its units (8).
const Member kFamily[] = {
    {"Qwen2", {.biases = true}},
    {"Qwen3", {.head_dim = 24, .head_norms = true}},
    {"Mistral", {.sliding_window = 20}},
    {"MistralLongerThanThePolicy", {.sliding_window = 75}},
    {"Gemma3",
     {.layers = 4,
      .kv_heads = 1,
      .head_norms = true,
      .post_norms = true,
      .gelu = true,
      .sliding_window = 16,
      .period = 2,
      .sliding_base = 50,
      .embedding_scale = 1.7f,
      .attention_scale = 0.2f}},
    {"Gemma3LongerThanThePolicy",
     {.layers = 3,
      .head_norms = true,
      .post_norms = true,
      .gelu = true,
      .sliding_window = 41,
      .period = 3,
      .sliding_base = 50}},
    {"SlidingOverOneToken", {.sliding_window = 1, .period = 2}},
};

constexpr PolicyKind kPolicies[] = {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm};

struct FamilyTest : RestoreTest, ::testing::WithParamInterface<Member> {
  FamilyTest() : RestoreTest(GetParam().shape) {}
};

TEST_P(FamilyTest, EqualsTheDefinitionOfEachPolicyAtAnyLength) {
  std::mt19937_64 random(2);
  for (PolicyKind kind : kPolicies)
    for (bool true_positions : {false, true}) {
      if (true_positions && kind != PolicyKind::InfLlm) continue;
      PolicyConfig p = small_policy(kind);
      p.true_positions = true_positions;
      for (int64_t n : {int64_t{1}, int64_t{31}, 40 + static_cast<int64_t>(random() % 40),
                        120 + static_cast<int64_t>(random() % 60)}) {
        bool sound = false;
        EXPECT_LT(off(p, random_tokens(random(), n), &sound), kFloat)
            << to_string(kind) << " length " << n;
        EXPECT_TRUE(sound);
      }
    }
}

TEST_P(FamilyTest, ChunksOfAnySizeGiveTheSameBitsAndUnits) {
  for (PolicyKind kind : kPolicies) {
    const auto tokens = random_tokens(11, 200);
    std::vector<float> expected;
    decltype(units.snapshot()) expected_units;
    for (int64_t chunk : {1, 7, 512}) {
      MemoryUnits fresh;
      options.half_kv = true;
      auto e = model::make_cpu_engine(m.model, options, fresh);
      const PolicyConfig p = small_policy(kind);
      e->open(1, p);
      Runner r{*e, 1, BlockPlan(p.block), {}};
      for (int64_t i = 0; i < 200; i += chunk)
        r.append(std::span(tokens).subspan(i, std::min<int64_t>(chunk, 200 - i)));
      r.finish_prompt();
      for (int i = 0; i < 20; ++i) {
        r.generate();
        r.run();
      }
      const auto logits = r.logits();
      if (expected.empty()) {
        expected = logits;
        expected_units = fresh.snapshot();
        EXPECT_GT(expected_units.size(), 20u);
      }
      EXPECT_EQ(std::memcmp(expected.data(), logits.data(), logits.size() * sizeof(float)), 0);
      EXPECT_EQ(expected_units, fresh.snapshot());
    }
  }
}

TEST_P(FamilyTest, GoesOnBitForBitWhateverTheStoreHasLost) {
  for (PolicyKind kind : kPolicies) {
    const PolicyConfig p = small_policy(kind);
    Runner r = lived(p);
    const auto want = r.logits();
    const auto before = units.snapshot();
    const int64_t sealed = engine->stats(1).units;
    ASSERT_GT(sealed, 20);
    restore_and_compare(p, r, want, "all units stored");
    for (int64_t lost : {int64_t{0}, sealed / 2, sealed - 4, sealed - 1}) {
      units.lose(lost);
      restore_and_compare(p, r, want, "one unit deleted");
    }
    units.clear();
    restore_and_compare(p, r, want, "no unit left");
    for (const auto& [key, parts] : units.snapshot()) EXPECT_EQ(before.at(key), parts);
    engine->close(1);
    units.clear();
  }
}

TEST_P(FamilyTest, ARestoredContextGoesOnAsTheFirstWouldHave) {
  for (PolicyKind kind : kPolicies) {
    const PolicyConfig p = small_policy(kind);
    Runner r = lived(p);
    const Runner then = r;
    const auto on = [](Runner& runner) {
      runner.append(random_tokens(9, 23));
      runner.finish_prompt();
      for (int i = 0; i < 5; ++i) {
        runner.generate();
        runner.run();
      }
      return runner.logits();
    };
    const auto want = on(r);
    engine->close(1);
    MemoryUnits empty;
    auto fresh =
        model::make_cpu_engine(m.model, options, kind == PolicyKind::Exact ? empty : units);
    restore(*fresh, p, then);
    Runner again{*fresh, 1, then.plan, then.tokens};
    EXPECT_EQ(on(again), want) << to_string(kind);
    units.clear();
  }
}

INSTANTIATE_TEST_SUITE_P(Family, FamilyTest, ::testing::ValuesIn(kFamily),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace ringtide::testing
