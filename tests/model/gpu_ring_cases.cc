// What a ring of GPUs has to do, over each that is instantiated (gpu_ring_kind.h).
#include <cstring>

#include "tests/model/gpu_ring_kind.h"

namespace ringtide::testing {
namespace {

// Blocks longer than what all shards compute together are split.
PolicyConfig long_blocks(int32_t block = 512) {
  PolicyConfig p;
  p.kind = PolicyKind::Exact;
  p.window = block;
  p.block = block;
  return p;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_P(GpuRing, EqualsTheDefinitionAtAnyLength) {
  for (const auto& [block, tokens] : {std::pair(128, 1), {128, 260}, {384, 383}, {512, 561}})
    EXPECT_LT(off(long_blocks(block), random_tokens(tokens, tokens)), kind.tolerance)
        << "block " << block << " length " << tokens;
}

TEST_P(GpuRing, TurnsOfAnyLengthEqualTheDefinition) {
  const PolicyConfig p = long_blocks();
  Reference reference(m, p);
  Runner r = open(1, p);
  std::mt19937_64 random(3);
  size_t at = 0, blocks = 0;
  for (const int64_t n : {300, 5, 400}) {
    r.append(random_tokens(random(), n));
    r.finish_prompt();
    for (int i = 0; i < 3; ++i) {
      r.generate();
      r.run();
    }
    for (; blocks < r.plan.lengths().size(); ++blocks) {
      const int32_t length = r.plan.lengths()[blocks];
      reference.run(std::span(r.tokens).subspan(at, length));
      at += length;
    }
    double worst = 0, size = 0;
    const auto got = r.logits();
    for (size_t i = 0; i < got.size(); ++i) {
      worst = std::max(worst, std::abs(got[i] - reference.logits()[i]));
      size = std::max(size, std::abs(reference.logits()[i]));
    }
    EXPECT_LT(worst / size, kind.tolerance) << "after " << at << " tokens";
  }
}

TEST_P(GpuRing, ChunksOfAnySizeGiveTheSameBits) {
  const PolicyConfig p = long_blocks(384);
  constexpr int64_t kTokens = 800;
  const auto tokens = random_tokens(11, kTokens);
  std::vector<float> expected;
  for (const int64_t chunk : {100, 384, 800}) {
    auto e = make(units);
    e->open(1, p);
    Runner r{*e, 1, BlockPlan(p.block), {}};
    for (int64_t i = 0; i < kTokens; i += chunk)
      r.append(std::span(tokens).subspan(i, std::min<int64_t>(chunk, kTokens - i)));
    r.finish_prompt();
    for (int i = 0; i < 3; ++i) {
      r.generate();
      r.run();
    }
    if (expected.empty()) expected = r.logits();
    EXPECT_TRUE(same(expected, r.logits())) << "chunks of " << chunk;
  }
}

TEST_P(GpuRing, BatchingDoesNotChangeABit) {
  const PolicyConfig p = long_blocks();
  std::vector<std::vector<float>> results;
  for (const bool together : {false, true}) {
    auto e = make(units);
    std::vector<Runner> runners;
    for (model::ContextId id : {1, 2, 3}) {
      e->open(id, p);
      runners.push_back({*e, id, BlockPlan(p.block), {}});
      runners.back().append(random_tokens(id, 100 + 100 * static_cast<int64_t>(id)));
      runners.back().finish_prompt();
    }
    for (int step = 0; step < 5; ++step) {
      std::vector<model::SampleRow> asked;
      std::vector<model::DecodeRow> rows;
      std::vector<TokenId> sampled(3);
      for (Runner& r : runners) asked.push_back({r.id, {}});
      e->sample(asked, sampled);
      for (size_t i = 0; i < runners.size(); ++i) rows.push_back({runners[i].id, sampled[i]});
      if (together) {
        e->decode(rows);
      } else {
        for (const auto& row : rows) e->decode({&row, 1});
      }
    }
    for (Runner& r : runners) results.push_back(r.logits());
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same(results[i], results[i + 3])) << i;
}

TEST_P(GpuRing, ARestoredSessionHasTheSameBits) {
  const PolicyConfig p = long_blocks();
  const Runner r = lived(p, 130);
  auto before = r;
  const auto want = before.logits();
  restore_and_compare(p, r, want, "run again from its tokens");
}

TEST_P(GpuRing, RefusesWhatAGpuDoes) {
  EXPECT_THROW(engine->open(1, long_blocks(2048)), model::ModelError);
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.true_positions = true;
  EXPECT_THROW(engine->open(1, p), model::ModelError);
  EXPECT_FALSE(engine->has(1));
}

// A step of rows under several policies, which different engines of each GPU run.
TEST_P(GpuRing, PoliciesShareSteps) {
  std::vector<std::vector<float>> results;
  std::vector<TokenId> tokens;
  for (const bool together : {false, true}) {
    auto e = make(units);
    std::vector<Runner> runners;
    for (const model::ContextId id : {0, 1, 2, 3}) {
      const PolicyConfig p = id % 2 ? long_blocks() : small_policy(PolicyKind::InfLlm);
      e->open(id, p);
      runners.push_back({*e, id, BlockPlan(p.block), {}});
      runners.back().append(random_tokens(id, 100 + 60 * static_cast<int64_t>(id)));
      runners.back().finish_prompt();
    }
    for (int step = 0; step < 20; ++step) {
      std::vector<model::SampleRow> asked;
      std::vector<model::DecodeRow> rows;
      std::vector<TokenId> sampled(4);
      for (Runner& r : runners) asked.push_back({r.id, {}});
      e->sample(asked, sampled);
      for (size_t i = 0; i < 4; ++i) rows.push_back({runners[i].id, sampled[i]});
      if (together) {
        e->decode(rows);
      } else {
        for (const auto& row : rows) e->decode({&row, 1});
      }
    }
    for (Runner& r : runners) results.push_back(r.logits());
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(same(results[i], results[i + 4])) << i;
}

TEST_P(GpuRing, NoMoreRoomClosesTheContextAndTheRingGoesOn) {
  const PolicyConfig p = long_blocks();
  Runner kept = open(1, p);
  kept.append(random_tokens(1, 512));
  engine->open(2, p);
  const auto block = random_tokens(2, 512);
  bool full = false;
  for (int i = 0; i < 1 << 14 && !full; ++i) {
    try {
      engine->imagine(2, p, int64_t{512} << i);
    } catch (const model::OutOfBudget&) {
      full = true;
    }
  }
  EXPECT_TRUE(full);
  engine->close(2);
  const auto before = engine->stats().gpu_used;
  kept.append(random_tokens(3, 512));
  EXPECT_EQ(kept.logits().size(), 97u);
  EXPECT_GT(engine->stats().gpu_used, before);
}

TEST_P(GpuRing, SamplesEqualOnesOfOneRow) {
  const PolicyConfig p = long_blocks();
  Runner r = open(1, p);
  r.append(random_tokens(5, 700));
  r.finish_prompt();
  model::SamplingParams warm;
  warm.temperature = 0.8f;
  warm.seed = 7;
  warm.repetition_penalty = 1.3f;
  const TokenId one = engine->sample(1, warm);
  EXPECT_EQ(engine->sample(1, warm), one);
  const TokenId greedy = engine->sample(1, {});
  const auto logits = r.logits();
  EXPECT_EQ(greedy, std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace
}  // namespace ringtide::testing
