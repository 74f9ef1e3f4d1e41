// A ring of CPU engines does what every engine does, and what a lone one of the same model does.
#include "model/shard_engine.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tests/model/engine_instances.h"
#include "tests/support/sharded_engine.h"

namespace ringtide::testing {
namespace {

EngineKind shard_kind(const char* name, int shards) {
  EngineKind kind = cpu_kind();
  kind.name = name;
  kind.small_budget = 300 << 10;  // of each shard
  kind.make = [shards](auto model, const auto& options, auto& units) {
    return make_sharded_engine(shards, model, options, dynamic_cast<MemoryUnits&>(units));
  };
  return kind;
}
EngineKind two() { return shard_kind("TwoShards", 2); }
EngineKind three() { return shard_kind("ThreeShards", 3); }

INSTANTIATE_TEST_SUITE_P(Shards, AnyEngine, ::testing::Values(two(), three()));
INSTANTIATE_TEST_SUITE_P(Shards, AnyRestore, ::testing::Values(two(), three()));

// What a session with turns of uneven lengths sees, of any engine.
struct Seen {
  std::vector<TokenId> tokens;  // generated
  std::vector<TokenId> text;    // all
  std::vector<int32_t> lengths;
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<model::UnitUse>> used;
};
Seen session(Engine& engine, const PolicyConfig& p, uint64_t seed) {
  engine.open(1, p);
  Runner r{engine, 1, BlockPlan(p.block), {}};
  Seen seen;
  const auto look = [&] {
    seen.logits.push_back(r.logits());
    seen.used.push_back(engine.last_used(1));
  };
  std::mt19937_64 random(seed);
  for (int turn = 0; turn < 3; ++turn) {
    r.append(random_tokens(random(), 1 + static_cast<int64_t>(random() % 150)));
    r.finish_prompt();
    look();
    for (int i = 0; i < 5; ++i) {
      seen.tokens.push_back(r.generate());
      r.finish_prompt();
      look();
    }
  }
  engine.close(1);
  seen.text = r.tokens;
  seen.lengths = r.plan.lengths();
  return seen;
}
// The smallest gap between a unit that was taken and one that was not.
double closest_choice(const SmallModel& m, const PolicyConfig& p, const Seen& seen) {
  Reference reference(m, p);
  size_t at = 0;
  for (const int32_t n : seen.lengths) {
    reference.run(std::span(seen.text).subspan(at, n));
    at += n;
  }
  return reference.closest_choice();
}
void expect_same(const Seen& got, const Seen& want, const std::string& what) {
  EXPECT_EQ(got.tokens, want.tokens) << what;
  for (size_t i = 0; i < want.logits.size(); ++i) {
    float worst = 0, size = 0;
    for (size_t j = 0; j < want.logits[i].size(); ++j) {
      worst = std::max(worst, std::abs(got.logits[i][j] - want.logits[i][j]));
      size = std::max(size, std::abs(want.logits[i][j]));
    }
    EXPECT_LT(worst, 1e-4f * size) << what << ", look " << i;
    EXPECT_TRUE(std::ranges::equal(
        got.used[i], want.used[i],
        [](const auto& a, const auto& b) { return a.unit == b.unit && a.layers == b.layers; }))
        << what << ", look " << i;
  }
}

struct ShardsEqualOne : ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Shards, ShardsEqualOne, ::testing::Values(1, 2, 3, 4, 8),
                         [](const auto& info) { return std::to_string(info.param); });

TEST_P(ShardsEqualOne, OfAnyShapePolicyAndLength) {
  uint64_t seed = 100;
  int unclear = 0;
  for (const auto& [heads, kv_heads] : {std::pair{4, 4}, {4, 2}, {4, 1}, {6, 2}})
    for (const int sliding : {0, 12, 60})
      for (const PolicyKind policy :
           {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
        SmallShape shape{.layers = 2, .heads = heads, .kv_heads = kv_heads, .head_dim = 8};
        shape.sliding_window = sliding;
        shape.period = 2;
        // What only some families have, by turns.
        shape.sliding_base = sliding == 60 ? 50 : 0;
        shape.biases = shape.head_norms = kv_heads == 2;
        shape.post_norms = shape.gelu = kv_heads == 1;
        const SmallModel m = small_model(3, shape);
        EngineOptions options;
        options.threads = 1;
        options.ram_budget = 64 << 20;
        options.half_kv = false;
        for (const int32_t block : {16, 32}) {                 // of few rows a shard, and of many
          options.exchange_bytes = block == 16 ? 0 : 1 << 20;  // outputs are split, or are not
          PolicyConfig p = small_policy(policy);
          p.block = block;
          MemoryUnits lone_units, ring_units;
          const auto lone = model::make_cpu_engine(m.model, options, lone_units);
          const auto ring = make_sharded_engine(GetParam(), m.model, options, ring_units);
          ++seed;
          const Seen want = session(*lone, p, seed);
          // Two units of nearly equal relevance may be told apart differently.
          if (policy == PolicyKind::InfLlm && closest_choice(m, p, want) < 1e-5) {
            ++unclear;
            continue;
          }
          expect_same(session(*ring, p, seed), want,
                      to_string(policy) + ", " + std::to_string(heads) + "/" +
                          std::to_string(kv_heads) + " heads, sliding " + std::to_string(sliding) +
                          ", block " + std::to_string(block) + ", seed " + std::to_string(seed));
        }
      }
  EXPECT_LE(unclear, 3);
}

TEST_P(ShardsEqualOne, WhereGroupsOfTheIndexAreChosen) {
  const SmallModel m = small_model(7);
  EngineOptions options;
  options.threads = 1;
  options.ram_budget = 64 << 20;
  options.half_kv = false;
  std::vector<std::vector<float>> results;
  for (const bool ring : {false, true}) {
    MemoryUnits units;
    const auto engine = ring ? make_sharded_engine(GetParam(), m.model, options, units)
                             : model::make_cpu_engine(m.model, options, units);
    engine->open(1, probing_policy());
    Runner r{*engine, 1, BlockPlan(probing_policy().block), {}};
    r.append(random_tokens(12, 700));
    r.finish_prompt();
    results.push_back(r.logits());
    EXPECT_EQ(units.groups(), 5);
  }
  for (size_t i = 0; i < results[0].size(); ++i) EXPECT_NEAR(results[1][i], results[0][i], 1e-3);
}

// Where a row's outputs are computed changes no bit.
TEST_F(EngineTest, SplittingOutputsChangesNoBit) {
  std::vector<Seen> seen;
  for (const int64_t exchange_bytes : {0, 1 << 20}) {
    MemoryUnits store;
    options.exchange_bytes = exchange_bytes;
    const auto ring = make_sharded_engine(3, m.model, options, store);
    seen.push_back(session(*ring, small_policy(PolicyKind::InfLlm), 5));
  }
  EXPECT_EQ(seen[0].tokens, seen[1].tokens);
  EXPECT_EQ(seen[0].logits, seen[1].logits);
}

// Bytes that a shard sends.
class CountingTransport : public model::ShardTransport {
 public:
  explicit CountingTransport(model::ShardTransport& below) : below_(below) {}
  int shard() const override { return below_.shard(); }
  int shards() const override { return below_.shards(); }
  void post(const model::ShardStep& step) override {
    sent += static_cast<int64_t>(step.send.size());
    below_.post(step);
  }
  void wait(uint64_t number) override { below_.wait(number); }
  void gather(uint64_t number, std::span<const std::byte> mine, std::span<std::byte> all) override {
    sent += static_cast<int64_t>(mine.size()) * (shards() - 1);
    below_.gather(number, mine, all);
  }
  void abort(const std::string& reason) override { below_.abort(reason); }
  int64_t sent = 0;

 private:
  model::ShardTransport& below_;
};

// While the past is short its keys travel, and every row is computed as a lone engine does; then
// queries do, and what a block sends does not grow any more. It never sends more than that.
TEST(ShardPasses, MoveWhatIsLess) {
  for (const int sliding : {0, 40})
    for (const PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming}) {
      SmallShape shape{.layers = 2, .heads = 6, .kv_heads = 2, .head_dim = 8};
      shape.sliding_window = sliding;
      shape.period = 2;
      const SmallModel m = small_model(5, shape);
      PolicyConfig p = small_policy(policy);
      p.block = 32;
      p.window = 64;
      EngineOptions options;
      options.threads = 1;
      options.ram_budget = 64 << 20;
      options.half_kv = false;
      MemoryUnits lone_units, units;
      const auto lone = model::make_cpu_engine(m.model, options, lone_units);
      kernels::ring::InProcessRing ring(2, std::chrono::seconds(20));
      CountingTransport counting[] = {CountingTransport(ring.at(0)), CountingTransport(ring.at(1))};
      ShardView stores[] = {ShardView(units, 0), ShardView(units, 1)};
      ShardedEngine shards(
          2, m.model, options, [&](int s) -> model::UnitStore& { return stores[s]; },
          [&](int s) -> model::ShardTransport& { return counting[s]; });
      lone->open(1, p);
      shards.open(1, p);
      const auto tokens = random_tokens(3, 32 * 24);
      std::vector<int64_t> sent;
      size_t as_alone = 0;  // blocks from the first on
      for (size_t at = 0; at < tokens.size(); at += p.block) {
        const auto block = std::span(tokens).subspan(at, p.block);
        const int64_t before = counting[0].sent;
        lone->prefill(1, block);
        shards.prefill(1, block);
        sent.push_back(counting[0].sent - before);
        const auto want = lone->logits(1), got = shards.logits(1);
        if (as_alone == at / p.block && std::ranges::equal(want, got)) ++as_alone;
      }
      const std::string what = to_string(policy) + ", sliding " + std::to_string(sliding);
      EXPECT_EQ(std::ranges::max(sent), sent.back()) << what;
      EXPECT_LT(10 * sent.front(), 7 * sent.back()) << what;
      EXPECT_GE(as_alone, 3u) << what;
      // Streaming reaches its window, which is short; of exact attention the past grows.
      EXPECT_EQ(as_alone == sent.size(), policy == PolicyKind::Streaming) << what;
    }
}

// The stores of a ring of two, apart.
struct TwoStores : EngineTest {
  MemoryUnits stores[2];
  int64_t budgets[2] = {64 << 20, 64 << 20};
  std::unique_ptr<kernels::ring::InProcessRing> ring;
  std::unique_ptr<Engine> engines[2];
  ShardThreads threads{2};
  // A new ring. Shard s over stores[s], or over the other's.
  void start(bool exchanged = false) {
    start([&](int s) -> model::UnitStore& { return stores[exchanged ? 1 - s : s]; },
          [&](int) { return m.model; });
  }
  void start(const std::function<model::UnitStore&(int)>& store,
             const std::function<std::shared_ptr<const model::Model>(int)>& model) {
    for (auto& engine : engines) engine.reset();
    ring = std::make_unique<kernels::ring::InProcessRing>(2, std::chrono::seconds(20));
    threads.run([&](int s) {
      EngineOptions o = options;
      o.ram_budget = budgets[s];
      engines[s] = model::make_shard_engine(model(s), o, store(s), ring->at(s));
    });
  }
  void both(const std::function<void(Engine&)>& call) {
    threads.run([&](int s) { call(*engines[s]); });
  }
  void run(std::span<const TokenId> tokens, int64_t block) {
    for (size_t at = 0; at < tokens.size(); at += block)
      both([&](Engine& e) {
        e.prefill(1, tokens.subspan(at, std::min<size_t>(block, tokens.size() - at)));
      });
  }
};

TEST_F(TwoStores, EachHoldsHalf) {
  options.unit_copies = 1;
  start();
  const PolicyConfig p = small_policy(PolicyKind::Exact);
  both([&](Engine& e) { e.open(1, p); });
  run(random_tokens(1, 2048), p.block);
  MemoryUnits lone_store;
  const auto lone = make(lone_store);
  lone->open(1, p);
  const auto tokens = random_tokens(1, 2048);
  for (size_t at = 0; at < tokens.size(); at += p.block)
    lone->prefill(1, std::span(tokens).subspan(at, p.block));
  const int64_t all = lone->stats().ram_used;
  for (int s = 0; s < 2; ++s) {
    EXPECT_NEAR(static_cast<double>(stores[s].snapshot().size()),
                static_cast<double>(lone_store.snapshot().size()) / 2, 1);
    // But for what grows with the tokens: the history.
    EXPECT_LT(engines[s]->stats().ram_used, all / 2 + 32 * 1024);
  }
}

TEST_F(TwoStores, WhatTheOtherHasIsSentAndNotMadeAgain) {
  for (const PolicyConfig& p : {small_policy(PolicyKind::Exact), probing_policy()}) {
    start();
    both([&](Engine& e) { e.open(1, p); });
    const auto tokens = random_tokens(4, 900);
    run(tokens, p.block);
    std::vector<float> want[2], got[2];
    threads.run([&](int s) {
      const auto l = engines[s]->logits(1);
      want[s].assign(l.begin(), l.end());
    });
    std::vector<int32_t> lengths(900 / p.block, p.block);
    if (900 % p.block) lengths.push_back(900 % p.block);

    start(true);
    both([&](Engine& e) { e.restore(1, p, tokens, lengths); });
    threads.run([&](int s) {
      while (!engines[s]->replay(1).finished) {
      }
      const auto l = engines[s]->logits(1);
      got[s].assign(l.begin(), l.end());
      EXPECT_EQ(engines[s]->stats(1).units_recomputed, 0);
    });
    for (int s = 0; s < 2; ++s) EXPECT_EQ(got[s], want[s]);
  }
}

TEST_F(TwoStores, WhereOneHasNoRoomAllSaySo) {
  budgets[1] = 512 << 10;
  start();
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.window = 4096;
  std::string texts[2];
  threads.outcomes([&](int s) {
    try {
      engines[s]->open(1, p);
    } catch (const model::ModelError& why) {
      texts[s] = why.what();
    }
  });
  EXPECT_NE(texts[0].find("shard 1: a session with a window of 4096"), std::string::npos)
      << texts[0];
  EXPECT_EQ(texts[0], texts[1]);
  both([&](Engine& e) { EXPECT_FALSE(e.has(1)); });
  std::vector<int32_t> lengths(4, 16);
  EXPECT_THROW(both([&](Engine& e) { e.restore(1, p, random_tokens(1, 64), lengths); }),
               model::ModelError);
  both([&](Engine& e) { EXPECT_FALSE(e.has(1)); });
  // And go on.
  p.window = 32;
  both([&](Engine& e) { e.open(1, p); });
  run(random_tokens(1, 64), p.block);
}

struct BreakingStore : MemoryUnits {
  void put(uint64_t owner, model::SealedUnit unit) override {
    if (breaks) throw std::runtime_error("the disk is gone");
    MemoryUnits::put(owner, std::move(unit));
  }
  bool breaks = false;
};

TEST_F(TwoStores, WhatBreaksOnOneEndsTheRingForAll) {
  BreakingStore breaking;
  start([&](int s) -> model::UnitStore& { return s == 1 ? breaking : stores[0]; },
        [&](int) { return m.model; });
  const PolicyConfig p = small_policy(PolicyKind::Streaming);
  both([&](Engine& e) { e.open(1, p); });
  run(random_tokens(1, 64), p.block);
  breaking.breaks = true;
  std::string texts[2];
  const auto tokens = random_tokens(2, 64);
  threads.outcomes([&](int s) {
    try {
      for (int i = 0; i < 4; ++i) engines[s]->prefill(1, std::span(tokens).subspan(i * 16, 16));
    } catch (const std::exception& why) {
      texts[s] = why.what();
    }
    EXPECT_THROW(engines[s]->open(2, p), model::RingError);
  });
  EXPECT_NE(texts[0].find("the disk is gone"), std::string::npos) << texts[0];
  EXPECT_EQ(texts[1], "the disk is gone");
}

TEST_F(TwoStores, ShardsOfDifferentWeightsDoNotGoOn) {
  const SmallModel other = small_model(8);
  start([&](int s) -> model::UnitStore& { return stores[s]; },
        [&](int s) { return s == 0 ? m.model : other.model; });
  const PolicyConfig p = small_policy(PolicyKind::InfLlm);
  both([&](Engine& e) { e.open(1, p); });
  try {
    // Rows that each computes by itself.
    for (const TokenId t : random_tokens(1, 200)) {
      const model::DecodeRow row{1, t};
      both([&](Engine& e) { e.decode({&row, 1}); });
    }
    FAIL() << "nobody noticed";
  } catch (const model::RingError& why) {
    EXPECT_NE(std::string(why.what()).find("do not attend to the same units"), std::string::npos)
        << why.what();
  }
}

}  // namespace
}  // namespace ringtide::testing
