// An engine over a small random model, driven as a session drives it and compared with the float64
// reference.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <ostream>
#include <random>

#include "model/blocks.h"
#include "model/engine.h"
#include "tests/support/memory_units.h"
#include "tests/support/reference.h"
#include "tests/support/small_model.h"

namespace ringtide::testing {

using model::BlockPlan;
using model::Engine;
using model::EngineOptions;
using model::HeadVote;
using model::PolicyConfig;
using model::PolicyKind;
using model::TokenId;

constexpr double kFloat = 2e-4;  // float32 against float64, relative to the largest logit

// An engine that the tests run over, and what it promises.
struct EngineKind {
  const char* name;
  std::function<std::unique_ptr<Engine>(std::shared_ptr<const model::Model>, const EngineOptions&,
                                        model::UnitStore&)>
      make;
  SmallShape shape;            // of the model
  double tolerance;            // to the float64 reference, relative to the largest logit
  double tie;                  // relevances closer than this may be told apart differently
  int64_t least_budget = 256 << 10;  // of memory in which infllm hardly goes on
  int64_t small_budget = 600 << 10;  // in which 3,000 tokens do not stay, of either policy
  int32_t least_unit = 1;
  bool true_positions = true;  // of infllm
  bool keeps_exact = false;    // under `exact` everything stays on the device
  bool joins_blocks = true;    // what is run again goes in few passes, else a block a pass
};
inline std::ostream& operator<<(std::ostream& out, const EngineKind& kind) {
  return out << kind.name;
}
inline EngineKind cpu_kind() {
  return {"Cpu",
          [](auto model, const auto& options, auto& units) {
            return model::make_cpu_engine(std::move(model), options, units);
          },
          {},
          kFloat,
          1e-5};
}

inline PolicyConfig small_policy(PolicyKind kind) {
  PolicyConfig p;
  p.kind = kind;
  p.window = 32;
  p.sinks = 8;
  p.unit = 8;
  p.block = 16;
  p.select = 2;
  p.representatives = 2;
  return p;
}

// Groups of 128 tokens, of which a lookup looks into two and the one not full yet.
inline PolicyConfig probing_policy() {
  PolicyConfig p;
  p.window = 8;
  p.sinks = 2;
  p.unit = 2;
  p.block = 4;
  p.select = 3;
  p.representatives = 1;
  p.probe = 2;
  return p;
}

inline std::vector<TokenId> random_tokens(uint64_t seed, int64_t n) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> tokens(n);
  for (TokenId& t : tokens) t = static_cast<TokenId>(random() % 97);
  return tokens;
}

// Runs tokens through an engine as a session would: the plan decides the blocks.
struct Runner {
  Engine& engine;
  model::ContextId id;
  BlockPlan plan;
  std::vector<TokenId> tokens;

  void append(std::span<const TokenId> more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
    plan.append(static_cast<int64_t>(more.size()));
    run();
  }
  void finish_prompt() {
    plan.begin_generation();
    run();
  }
  TokenId generate() {
    const TokenId t = engine.sample(id, {});
    plan.token();
    tokens.push_back(t);
    return t;
  }
  // All blocks that are planned, at once.
  void run() {
    const int64_t begin = plan.processed();
    std::vector<int32_t> lengths;
    while (const int32_t n = plan.next()) {
      lengths.push_back(n);
      plan.taken(n);
    }
    if (lengths.empty()) return;
    engine.prefill(id, std::span(tokens).subspan(begin, plan.processed() - begin), lengths);
  }
  std::vector<float> logits() {
    const auto l = engine.logits(id);
    return {l.begin(), l.end()};
  }
};

struct EngineTest : ::testing::Test {
  explicit EngineTest(const SmallShape& shape = {}, EngineKind kind = cpu_kind())
      : kind(std::move(kind)), m(small_model(7, shape)) {}

  const EngineKind kind;
  SmallModel m;
  MemoryUnits units;
  EngineOptions options = [] {
    EngineOptions o;
    o.threads = 1;
    o.ram_budget = 64 << 20;
    o.half_kv = false;
    return o;
  }();
  std::unique_ptr<Engine> make(model::UnitStore& store) { return kind.make(m.model, options, store); }
  std::unique_ptr<Engine> engine = make(units);

  Runner open(model::ContextId id, const PolicyConfig& p) {
    engine->open(id, p);
    return {*engine, id, BlockPlan(p.block), {}};
  }
  // Largest difference of logits to the reference's, relative to their size.
  double off(const PolicyConfig& policy, std::span<const TokenId> tokens, bool* sound = nullptr) {
    Reference reference(m, policy);
    Runner r = open(99, policy);
    r.append(tokens);
    r.finish_prompt();
    size_t at = 0;
    for (int32_t n : r.plan.lengths()) {
      reference.run(tokens.subspan(at, n));
      at += n;
    }
    double worst = 0, size = 0;
    const auto got = r.logits();
    for (size_t i = 0; i < got.size(); ++i) {
      worst = std::max(worst, std::abs(got[i] - reference.logits()[i]));
      size = std::max(size, std::abs(reference.logits()[i]));
    }
    if (sound) *sound = !reference.seen_twice();
    engine->close(99);
    // Two units of nearly equal relevance may be told apart differently.
    if (worst / size > kind.tolerance && reference.closest_choice() < kind.tie) return 0;
    return worst / size;
  }
};

struct RestoreTest : EngineTest {
  using EngineTest::EngineTest;

  // A session with several turns; returns its logits at the end.
  Runner lived(const PolicyConfig& p, int64_t least = 40) {
    Runner r = open(1, p);
    std::mt19937_64 random(5);
    for (int turn = 0; turn < 4; ++turn) {
      r.append(random_tokens(turn, least + static_cast<int64_t>(random() % 60)));
      r.finish_prompt();
      for (int i = 0; i < 9; ++i) {
        r.generate();
        r.run();
      }
    }
    return r;
  }
  // Context 1 as `r` left it. Returns how many tokens had to be run again.
  static int64_t restore(Engine& engine, const PolicyConfig& p, const Runner& r) {
    engine.restore(1, p, {r.tokens.begin(), r.tokens.begin() + r.plan.processed()},
                   r.plan.lengths());
    EXPECT_THROW(engine.sample(1, {}), std::logic_error);
    Engine::Replay replay;
    do {
      const int64_t before = replay.done;
      replay = engine.replay(1);
      EXPECT_LE(replay.done - before, p.block);
    } while (!replay.finished);
    return replay.total;
  }
  void restore_and_compare(const PolicyConfig& p, const Runner& r, const std::vector<float>& want,
                           const char* what) {
    engine->close(1);
    const int64_t done = r.plan.processed();
    restore(*engine, p, r);
    const auto got = engine->logits(1);
    EXPECT_TRUE(std::equal(want.begin(), want.end(), got.begin())) << what;
    EXPECT_EQ(engine->stats(1).tokens, done);
  }
};

}  // namespace ringtide::testing
