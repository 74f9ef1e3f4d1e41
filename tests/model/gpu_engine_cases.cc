#include <algorithm>
#include <cstring>

#include "model/sampler.h"
#include "tests/model/gpu_kind.h"

namespace ringtide::testing {
namespace {

// Of few blocks or many a pass, the same bits and units.
TEST_P(GpuEngine, HowManyBlocksShareAPassChangesNoBit) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    const PolicyConfig p = small_policy(policy);
    const auto tokens = random_tokens(17, 400);
    std::vector<float> expected;
    decltype(units.snapshot()) expected_units;
    for (const int32_t together : {1, 2, 3, 25}) {
      MemoryUnits fresh;
      auto e = make(fresh);
      e->open(1, p);
      for (int32_t at = 0; at < 400; at += together * p.block) {
        const int32_t n = std::min(together * p.block, 400 - at);
        const std::vector<int32_t> lengths(n / p.block, p.block);
        e->prefill(1, std::span(tokens).subspan(at, n), lengths);
      }
      const auto logits = e->logits(1);
      if (expected.empty()) expected.assign(logits.begin(), logits.end());
      EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.begin())) << together;
      e->close(1);
      if (expected_units.empty()) expected_units = fresh.snapshot();
      EXPECT_EQ(expected_units, fresh.snapshot()) << together;
    }
  }
}

// Sessions with different policies decode beside each other, come and go.
TEST_P(GpuEngine, MixedStepsAreEachRowsOwn) {
  std::vector<std::vector<float>> alone, together;
  const PolicyKind kinds[] = {PolicyKind::InfLlm, PolicyKind::Exact, PolicyKind::InfLlm,
                              PolicyKind::Streaming};
  for (bool batch : {false, true}) {
    MemoryUnits fresh;
    auto e = make(fresh);
    std::vector<Runner> runners;
    for (model::ContextId id = 0; id < 4; ++id) {
      const PolicyConfig p = small_policy(kinds[id]);
      e->open(id, p);
      runners.push_back({*e, id, BlockPlan(p.block), {}});
      runners.back().append(random_tokens(id, 50 + 17 * static_cast<int64_t>(id)));
      runners.back().finish_prompt();
    }
    for (int step = 0; step < 30; ++step) {
      std::vector<model::SampleRow> asked;
      std::vector<model::DecodeRow> rows;
      for (Runner& r : runners)
        if (step % 5 != static_cast<int>(r.id)) asked.push_back({r.id, {}});
      std::vector<TokenId> tokens(asked.size());
      if (batch) {
        e->sample(asked, tokens);
      } else {
        for (size_t i = 0; i < asked.size(); ++i)
          tokens[i] = e->sample(asked[i].context, asked[i].params);
      }
      for (size_t i = 0; i < asked.size(); ++i) rows.push_back({asked[i].context, tokens[i]});
      if (batch)
        e->decode(rows);
      else
        for (const auto& row : rows) e->decode({&row, 1});
    }
    for (Runner& r : runners) (batch ? together : alone).push_back(r.logits());
  }
  EXPECT_EQ(alone, together);
}

// While tokens are sampled the engine describes the step it expects. Whether that step follows, or
// one with other tokens, or after other work: the same bits as if nothing had been expected.
TEST_P(GpuEngine, WhatIsExpectedChangesNoBit) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    const PolicyConfig p = small_policy(policy);
    const auto text = random_tokens(29, 200);
    std::vector<TokenId> fed;  // to both contexts, in turn
    std::vector<std::vector<float>> expected;
    decltype(units.snapshot()) expected_units;
    for (const bool sampling : {false, true}) {
      MemoryUnits fresh;
      auto e = make(fresh);
      for (model::ContextId id : {1, 2, 3}) {
        e->open(id, p);
        const std::vector<int32_t> lengths(3, p.block);
        e->prefill(id, std::span(text).subspan(id, 3 * p.block), lengths);
      }
      const model::SampleRow asked[] = {{1, {}}, {2, {}}};
      TokenId tokens[2] = {};
      for (int step = 0; step < 60; ++step) {
        if (sampling) {
          e->sample(asked, tokens);
        } else {
          for (size_t i = 0; i < 2; ++i) {
            const auto logits = e->logits(asked[i].context);
            const auto most = std::max_element(logits.begin(), logits.end());
            const auto likeliest = static_cast<TokenId>(most - logits.begin());
            fed.push_back(step % 3 == 0 ? text[100 + step] : likeliest);
          }
        }
        if (step % 10 == 4)
          e->prefill(3, std::span(text).first(p.block - e->stats(3).tokens % p.block));
        if (step % 10 == 7) {
          const model::DecodeRow other{3, text[step]};
          e->decode({&other, 1});
        }
        model::DecodeRow rows[] = {{1, fed[2 * step]}, {2, fed[2 * step + 1]}};
        if (sampling && step % 3 != 0) {
          EXPECT_EQ(tokens[0], rows[0].token);
          EXPECT_EQ(tokens[1], rows[1].token);
        }
        e->decode(rows);
      }
      for (model::ContextId id : {1, 2, 3}) {
        const auto logits = e->logits(id);
        const std::vector<float> got(logits.begin(), logits.end());
        if (!sampling)
          expected.push_back(got);
        else
          EXPECT_EQ(got, expected[id - 1]);
        e->close(id);
      }
      if (!sampling) expected_units = fresh.snapshot();
      EXPECT_EQ(fresh.snapshot(), expected_units);
    }
  }
}

// What was read back for the window is not read once more when it is looked up.
TEST_P(GpuEngine, PagesReadBackAreLookedUpInHostMemory) {
  const PolicyConfig p = small_policy(PolicyKind::InfLlm);
  Runner r = open(1, p);
  r.append(random_tokens(33, p.window));
  r.finish_prompt();
  engine->close(1);
  auto fresh = make(units);
  EXPECT_LE(restore(*fresh, p, r), p.block);
  Runner again{*fresh, 1, r.plan, r.tokens};
  for (int i = 0; i < 2 * p.window; ++i) {
    again.generate();
    again.run();
  }
  EXPECT_GT(fresh->stats(1).units_selected, 0);
  EXPECT_EQ(fresh->stats(1).reads_store, 0);
}

// What was sampled can be asked about again, and sampled again, after the next step was started.
TEST_P(GpuEngine, LogitsStayUntilTheNextToken) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::InfLlm}) {
    Runner r = open(1, small_policy(policy));
    r.append(random_tokens(8, 150));
    r.finish_prompt();
    for (int i = 0; i < 8; ++i) {
      r.generate();
      r.run();
    }
    model::SamplingParams params;
    params.temperature = 1;
    const TokenId greedy = engine->sample(1, {}), drawn = engine->sample(1, params);
    const auto logits = r.logits();
    EXPECT_EQ(engine->sample(1, {}), greedy);
    EXPECT_EQ(engine->sample(1, params), drawn);
    EXPECT_EQ(r.logits(), logits);
    // The same blocks without anything expected.
    auto again = make(units);
    again->open(2, small_policy(policy));
    size_t at = 0;
    for (const int32_t n : r.plan.lengths()) {
      again->prefill(2, std::span(r.tokens).subspan(at, n));
      at += n;
    }
    const auto expected = again->logits(2);
    EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.begin()));
    engine->close(1);
  }
}

// Where a layer's input is that of the layer before, what it chooses is in slots when it asks.
TEST_P(GpuEngine, UnitsOfRightGuessesAreNotAwaited) {
  SmallShape shape = kind.shape;
  shape.layers = 5;
  shape.idle_layers = 4;
  m = small_model(3, shape);
  engine = make(units);
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.select = 4;
  Runner r = open(1, p);
  r.append(random_tokens(12, 600));
  r.finish_prompt();
  const int64_t chosen_before = engine->stats(1).units_selected;
  const int64_t awaited_before = engine->units_awaited(1);
  for (int i = 0; i < 30; ++i) {
    const model::DecodeRow row{1, random_tokens(100 + i, 1)[0]};
    engine->decode({&row, 1});
  }
  const int64_t chosen = engine->stats(1).units_selected - chosen_before;
  const int64_t awaited = engine->units_awaited(1) - awaited_before;
  EXPECT_EQ(chosen, 30 * 5 * 4);
  EXPECT_GT(awaited, 30);
  EXPECT_LE(awaited, chosen / 5);  // of the first layer, which nobody guesses
}

TEST_P(GpuEngine, SamplesAsTheSamplerSays) {
  Runner r = open(1, small_policy(PolicyKind::Exact));
  r.append(random_tokens(4, 40));
  r.finish_prompt();
  for (uint64_t seed = 0; seed < 200; ++seed) {
    model::SamplingParams params;
    params.seed = seed;
    params.temperature = 0.1f + 0.1f * static_cast<float>(seed % 20);
    params.top_k = static_cast<int32_t>(seed % 7) * 5;
    params.top_p = seed % 3 == 0 ? 0.8f : 1.0f;
    params.min_p = seed % 5 == 0 ? 0.05f : 0.0f;
    params.repetition_penalty = seed % 4 == 0 ? 1.3f : 1.0f;
    params.penalty_window = 10;
    std::vector<float> logits = r.logits();
    const TokenId want = model::sample(logits, std::span(r.tokens).last(10), 40, params);
    EXPECT_EQ(engine->sample(1, params), want) << seed;
  }
}

TEST_P(GpuEngine, RefusesWhatDoesNotFit) {
  options.gpu_memory = 24 << 20;
  auto e = make(units);
  PolicyConfig p = small_policy(PolicyKind::Streaming);
  p.window = 1 << 17;
  EXPECT_THROW(e->open(1, p), model::ModelError);  // not even alone
  EXPECT_FALSE(e->has(1));
  p.window = 4096;
  model::ContextId id = 1;
  const auto fill = [&] {
    for (;; ++id) e->open(id, p);
  };
  EXPECT_THROW(fill(), model::OutOfBudget);  // not beside the others
  EXPECT_GT(id, 1u);
  EXPECT_FALSE(e->has(id));
  EXPECT_LE(e->stats().gpu_used, e->stats().gpu_budget);
  for (model::ContextId i = 1; i < id; ++i) e->close(i);
  EXPECT_EQ(e->stats().gpu_used, 0);
  e->open(1, p);
  options.gpu_memory = 1 << 16;
  EXPECT_THROW(make(units), model::ModelError);
  p.unit = 4;
  EXPECT_THROW(e->open(2, p), model::ModelError);
}

// Under `exact` a session grows until nothing is left, and is closed then.
TEST_P(GpuEngine, ExactEndsWhereMemoryDoes) {
  options.gpu_memory = 8 << 20;
  auto e = make(units);
  e->open(1, small_policy(PolicyKind::Exact));
  const auto tokens = random_tokens(1, 16);
  const auto fill = [&] {
    for (;;) e->prefill(1, tokens);
  };
  EXPECT_THROW(fill(), model::OutOfBudget);
  EXPECT_FALSE(e->has(1));
  EXPECT_EQ(e->stats().gpu_used, 0);
}

}  // namespace
}  // namespace ringtide::testing
