#include "kernels/ring/traffic.h"

#include "tests/kernels/support.h"

namespace ringtide::kernels::ring {
namespace {

constexpr int kUnit = 128;

TEST(Traffic, TheRuleOfThePaperIsWhatIsCounted) {
  // Long enough that blocks which stay behind do not matter, short of the edge by a tenth.
  Random random(4);
  int queries = 0, keys = 0;
  for (int round = 0; round < 300; ++round) {
    const int kv_heads = uniform(random, 1, 8), heads = kv_heads * uniform(random, 3, 16);
    const int64_t past = kUnit * uniform(random, 0, 1500), fresh = kUnit * uniform(random, 64, 700);
    const double edge = static_cast<double>(fresh) * heads / (2.0 * kv_heads * (fresh + past));
    if (edge > 0.85 && edge < 1.15) continue;
    Placement p(uniform(random, 4, 8), kUnit);
    p.append(past);
    p.append(fresh);
    const Sizes s = sizes(heads, kv_heads, 64, kUnit, 2);
    const Tokens all{past, past + fresh};
    const bool fewer =
        traffic(p, all, Mode::PassQ, s).rotated < traffic(p, all, Mode::PassKv, s).rotated;
    EXPECT_EQ(fewer, queries_rotate_fewer(fresh, past, heads, kv_heads))
        << heads << "/" << kv_heads << ", " << fresh << " after " << past;
    ++(fewer ? queries : keys);
  }
  EXPECT_GT(queries, 30);
  EXPECT_GT(keys, 30);
  EXPECT_TRUE(queries_rotate_fewer(49, 51, 32, 8));  // Llama 3 8B: up to half
  EXPECT_FALSE(queries_rotate_fewer(50, 50, 32, 8));
}

TEST(Traffic, KnownBytes) {
  // 8 blocks on 2 shards: 2 + 4 blocks travel; or the queries of all tokens, and their results.
  Placement p(2, kUnit);
  p.append(8 * kUnit);
  const Sizes s = sizes(32, 8, 128, kUnit, 2);
  EXPECT_EQ(s.kv_block, 4096 * kUnit);
  EXPECT_EQ(traffic(p, {0, 8 * kUnit}, Mode::PassKv, s).all(), 6 * kUnit * 4096);
  const Traffic q = traffic(p, {0, 8 * kUnit}, Mode::PassQ, s);
  EXPECT_EQ(q.rotated, 8 * kUnit * 8192);
  EXPECT_EQ(q.returned, 8 * kUnit * 32 * 129 * 4);
  EXPECT_EQ(choose(p, {0, 8 * kUnit}, s), Mode::PassKv);
  p.append(5);
  EXPECT_EQ(choose(p, {8 * kUnit, 8 * kUnit + 5}, s), Mode::PassQ);
}

TEST(Traffic, OneShardMovesNothing) {
  Placement p(1, kUnit);
  p.append(1000);
  const Sizes s = sizes(9, 3, 64, kUnit, 4);
  for (Mode mode : {Mode::PassKv, Mode::PassQ}) EXPECT_EQ(traffic(p, {0, 1000}, mode, s).all(), 0);
}

}  // namespace
}  // namespace ringtide::kernels::ring
