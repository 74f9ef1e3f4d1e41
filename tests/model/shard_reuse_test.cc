// Rings of other sizes go on with the units that the ring before has left in their stores.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/model/engine_fixture.h"
#include "tests/support/sharded_engine.h"

namespace ringtide::testing {
namespace {

using Store = std::shared_ptr<MemoryUnits>;

std::vector<Store> fresh(int count) {
  std::vector<Store> stores(count);
  for (Store& store : stores) store = std::make_shared<MemoryUnits>();
  return stores;
}

// A ring in this process, of as many shards as there are stores.
struct Ring {
  Ring(const SmallModel& m, const EngineOptions& options, std::vector<Store> with)
      : stores(std::move(with)),
        transport(static_cast<int>(stores.size()), std::chrono::seconds(20)),
        engine(
            static_cast<int>(stores.size()), m.model, options,
            [&](int s) -> model::UnitStore& { return *stores[s]; },
            [&](int s) -> model::ShardTransport& { return transport.at(s); }) {}
  std::vector<Store> stores;
  kernels::ring::InProcessRing transport;
  ShardedEngine engine;
};

// A session of one policy: some text, a shorter one, generated tokens between and after. Units of
// nearly equal relevance, which rounding could tell apart differently, are not in this text.
struct ReuseTest : RestoreTest {
  PolicyConfig p;
  static constexpr int64_t kText = 700;

  Runner begin(Engine& on) {
    on.open(1, p);
    Runner r{on, 1, BlockPlan(p.block), {}};
    r.append(random_tokens(12, kText));
    r.finish_prompt();
    for (int i = 0; i < 3; ++i) {
      r.generate();
      r.run();
    }
    return r;
  }
  struct Seen {
    std::vector<TokenId> tokens;
    std::vector<std::vector<float>> logits;
    std::vector<std::vector<model::UnitUse>> used;
  };
  Seen go_on(Engine& on, const Runner& so_far) {
    Runner r{on, 1, so_far.plan, so_far.tokens};
    Seen seen;
    const auto look = [&] {
      seen.logits.push_back(r.logits());
      seen.used.push_back(on.last_used(1));
    };
    look();
    r.append(random_tokens(13, 60));
    r.finish_prompt();
    look();
    for (int i = 0; i < 5; ++i) {
      r.generate();
      r.run();
      look();
    }
    seen.tokens = r.tokens;
    return seen;
  }
  static void expect_same(const Seen& got, const Seen& want) {
    EXPECT_EQ(got.tokens, want.tokens);
    for (size_t i = 0; i < want.logits.size(); ++i) {
      float worst = 0, size = 0;
      for (size_t j = 0; j < want.logits[i].size(); ++j) {
        worst = std::max(worst, std::abs(got.logits[i][j] - want.logits[i][j]));
        size = std::max(size, std::abs(want.logits[i][j]));
      }
      EXPECT_LT(worst, 1e-4f * size) << "look " << i;
      EXPECT_TRUE(std::ranges::equal(
          got.used[i], want.used[i],
          [](const auto& a, const auto& b) { return a.unit == b.unit && a.layers == b.layers; }))
          << "look " << i;
    }
  }
  // What a lone engine makes of it.
  Seen alone() {
    const Seen seen = go_on(*engine, begin(*engine));
    engine->close(1);
    return seen;
  }
};

struct AnotherSize : ReuseTest, ::testing::WithParamInterface<std::tuple<int, PolicyKind>> {
  AnotherSize() {
    const PolicyKind kind = std::get<1>(GetParam());
    p = kind == PolicyKind::InfLlm ? probing_policy() : small_policy(kind);
  }
};
INSTANTIATE_TEST_SUITE_P(Shards, AnotherSize,
                         ::testing::Combine(::testing::Values(0, 1, 2, 3, 4, 5, 6),
                                            ::testing::Values(PolicyKind::Exact,
                                                              PolicyKind::Streaming,
                                                              PolicyKind::InfLlm)));

TEST_P(AnotherSize, ComputesOnlyTheLastBlockAgain) {
  const Seen want = alone();
  // Shards before; which of their stores the next ring has, -1 for a new one.
  const std::pair<int, std::vector<int>> rings[] = {
      {4, {0, 2, 3}},         {4, {3, 1}},       {2, {1}},        {1, {0, -1, -1}},
      {3, {0, -1, 1, 2, -1}}, {4, {2, 0, 3, 1}}, {3, {0, -1, 2}},
  };
  const auto& [before, kept] = rings[std::get<0>(GetParam())];
  std::vector<Store> stores = fresh(before), next;
  Runner r = [&] {
    Ring first(m, options, stores);
    return begin(first.engine);
  }();
  for (const int s : kept) next.push_back(s < 0 ? fresh(1)[0] : stores[s]);
  Ring second(m, options, next);
  EXPECT_LE(restore(second.engine, p, r), p.block);
  expect_same(go_on(second.engine, r), want);
  EXPECT_EQ(second.engine.stats(1).units_recomputed, 0);
}

// What two neighbours had together is made again, and nothing else is lost.
TEST_F(ReuseTest, WhatNobodyKeepsIsMadeAgain) {
  for (const PolicyConfig& policy : {small_policy(PolicyKind::Exact), probing_policy()}) {
    p = policy;
    const Seen want = alone();
    for (const int copies : {1, 2}) {
      options.unit_copies = copies;
      std::vector<Store> stores = fresh(4);
      Runner r = [&] {
        Ring first(m, options, stores);
        return begin(first.engine);
      }();
      Ring second(m, options, {stores[0], stores[3]});
      EXPECT_GT(restore(second.engine, p, r), p.block);
      expect_same(go_on(second.engine, r), want);
    }
  }
}

TEST_F(ReuseTest, ACopyIsWithTheShardAfter) {
  p = small_policy(PolicyKind::Exact);
  const auto units_of = [&](int copies) {
    options.unit_copies = copies;
    Ring ring(m, options, fresh(4));
    begin(ring.engine);
    std::vector<std::map<model::UnitKey, std::vector<std::vector<std::byte>>>> all;
    for (const Store& store : ring.stores) all.push_back(store->snapshot());
    return all;
  };
  const auto one = units_of(1), two = units_of(2);
  for (int s = 0; s < 4; ++s) {
    auto want = one[s];
    want.insert(one[(s + 3) % 4].begin(), one[(s + 3) % 4].end());
    EXPECT_EQ(two[s], want) << "shard " << s;
  }
}

// Stores of rings of two sizes have other bytes under the same keys: sums of three parts are not
// rounded as those of two. What decides choices is one's, on all shards.
TEST_F(ReuseTest, StoresThatDifferAgree) {
  p = probing_policy();
  const Seen want = alone();
  std::vector<Store> of_two = fresh(2), of_three = fresh(3);
  {
    Ring ring(m, options, of_two);
    begin(ring.engine);
  }
  Runner r = [&] {
    Ring ring(m, options, of_three);
    return begin(ring.engine);
  }();
  int differ = 0;
  const auto theirs = of_three[2]->snapshot();
  for (const auto& [key, parts] : of_two[0]->snapshot())
    differ += theirs.contains(key) && theirs.at(key) != parts;
  ASSERT_GT(differ, 5);
  for (const auto& stores : {std::vector{of_two[0], of_three[2]}, {of_three[1], of_two[1]}}) {
    Ring ring(m, options, stores);
    EXPECT_LE(restore(ring.engine, p, r), p.block);
    expect_same(go_on(ring.engine, r), want);
    EXPECT_GT(ring.engine.stats(1).groups_remade, 0);
    // And from now on they have the same groups.
    ring.engine.close(1);
    restore(ring.engine, p, r);
    EXPECT_EQ(ring.engine.stats(1).groups_remade, 0);
  }
}

}  // namespace
}  // namespace ringtide::testing
