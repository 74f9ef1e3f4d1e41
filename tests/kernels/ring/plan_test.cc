#include "kernels/ring/plan.h"

#include <algorithm>
#include <set>

#include "tests/kernels/support.h"

namespace ringtide::kernels::ring {
namespace {

// Every fresh query sees every token up to its own position, once, at the hop where it is there.
void expect_exact(const Placement& p, Tokens fresh, Mode mode) {
  std::vector<Plan> plans;
  for (int s = 0; s < p.shards(); ++s) plans.push_back(make_plan(p, fresh, mode, s));
  std::set<std::pair<int64_t, int64_t>> seen;
  for (const Plan& plan : plans) {
    ASSERT_EQ(plan.hops.size(), static_cast<size_t>(p.shards()));
    ASSERT_EQ(plan.hops[0].visitor, plan.shard);
    ASSERT_EQ(plan.hops.back().sends, 0) << "the last send is useless";
    for (size_t h = 0; h < plan.hops.size(); ++h) {
      const Hop& hop = plan.hops[h];
      const Plan& next = plans[(plan.shard + 1) % p.shards()];
      if (h + 1 < plan.hops.size()) {
        ASSERT_EQ(hop.sends, next.hops[h + 1].here);
        ASSERT_EQ(hop.visitor, next.hops[h + 1].visitor);
      }
      const int query_shard = mode == Mode::PassKv ? plan.shard : hop.visitor;
      const int key_shard = mode == Mode::PassKv ? hop.visitor : plan.shard;
      std::vector<int64_t> rows;
      for (const Tokens& run : p.runs(query_shard, fresh))
        for (int64_t t = run.begin; t < run.end; ++t) rows.push_back(t);
      for (const Piece& piece : hop.pieces) {
        for (int64_t t = piece.queries.begin; t < piece.queries.end; ++t) {
          ASSERT_EQ(rows.at(piece.query_row + t - piece.queries.begin), t);
          for (int64_t k = piece.keys.begin; k < piece.keys.end; ++k) {
            const int64_t block = piece.key_block + k / p.unit() - piece.keys.begin / p.unit();
            ASSERT_EQ(p.blocks_of(key_shard).at(block), k / p.unit());
            if (mode == Mode::PassKv) {
              ASSERT_LT(block, hop.here);
            }
            if (piece.mask == Mask::Causal && k > t) continue;
            ASSERT_LE(k, t);
            ASSERT_TRUE(seen.emplace(t, k).second) << "seen twice";
          }
        }
      }
    }
  }
  int64_t pairs = 0;
  for (int64_t t = fresh.begin; t < fresh.end; ++t) pairs += t + 1;
  ASSERT_EQ(static_cast<int64_t>(seen.size()), pairs);
}

TEST(Plan, EveryQuerySeesItsWholePastOnce) {
  Random random(3);
  for (int round = 0; round < 150; ++round) {
    Placement p(uniform(random, 1, 8), uniform(random, 1, 9));
    for (int i = 0; i < 3; ++i) {
      const int64_t from = p.tokens();
      p.append(uniform(random, 0, 60));
      for (Mode mode : {Mode::PassKv, Mode::PassQ}) {
        expect_exact(p, {from, p.tokens()}, mode);
        if (testing::Test::HasFailure()) FAIL() << "round " << round;
      }
    }
  }
}

TEST(Plan, OnlyTheDiagonalIsMasked) {
  Placement p(4, 8);
  p.append(8 * 8 * 4);
  for (int s = 0; s < 4; ++s) {
    const Plan plan = make_plan(p, {0, p.tokens()}, Mode::PassKv, s);
    for (const Hop& hop : plan.hops)
      for (const Piece& piece : hop.pieces)
        EXPECT_EQ(piece.mask == Mask::Causal, piece.keys == piece.queries);
  }
}

TEST(Plan, KeysThatNobodySeesStay) {
  // Of two shards the first has the latest tokens, which the second's queries do not see.
  Placement p(2, 10);
  p.append(80);
  EXPECT_EQ(make_plan(p, {0, 80}, Mode::PassKv, 0).hops[0].sends, 2);
  EXPECT_EQ(make_plan(p, {0, 80}, Mode::PassKv, 1).hops[0].sends, 4);
}

TEST(Plan, RefusesOtherTokensThanTheLast) {
  Placement p(2, 4);
  p.append(20);
  EXPECT_THROW(make_plan(p, {0, 19}, Mode::PassKv, 0), std::invalid_argument);
  EXPECT_THROW(make_plan(p, {21, 20}, Mode::PassKv, 0), std::invalid_argument);
  EXPECT_THROW(make_plan(p, {0, 20}, Mode::PassKv, 2), std::invalid_argument);
}

}  // namespace
}  // namespace ringtide::kernels::ring
