#include "kernels/ring/placement.h"

#include <algorithm>
#include <map>

#include "tests/kernels/support.h"

namespace ringtide::kernels::ring {
namespace {

// Every token on exactly one shard, blocks whole, runs ascending and maximal.
void expect_whole(const Placement& p) {
  std::map<int64_t, int64_t> runs;  // begin, end
  int64_t most = 0, least = p.tokens();
  size_t most_blocks = 0, least_blocks = p.tokens();
  for (int s = 0; s < p.shards(); ++s) {
    int64_t tokens = 0, before = -1;
    for (const Tokens& run : p.runs(s, {0, p.tokens()})) {
      ASSERT_LT(before, run.begin) << "runs that touch are one";
      ASSERT_EQ(run.begin % p.unit(), 0);
      ASSERT_TRUE(runs.emplace(run.begin, run.end).second);
      tokens += run.size();
      before = run.end;
    }
    ASSERT_EQ(tokens, p.tokens_of(s));
    most = std::max(most, tokens), least = std::min(least, tokens);
    most_blocks = std::max(most_blocks, p.blocks_of(s).size());
    least_blocks = std::min(least_blocks, p.blocks_of(s).size());
  }
  int64_t at = 0;
  for (const auto& [begin, end] : runs) {
    ASSERT_EQ(begin, at) << "a token on no shard, or on two";
    at = end;
  }
  ASSERT_EQ(at, p.tokens());
  ASSERT_LE(most_blocks - least_blocks, 1u);
  ASSERT_LT(most - least, 2 * p.unit());
}

TEST(Placement, EveryTokenIsOnOneShardAndNothingMoves) {
  Random random(1);
  for (int round = 0; round < 400; ++round) {
    Placement p(uniform(random, 1, 9), uniform(random, 1, 20));
    for (int i = 0; i < 12; ++i) {
      std::vector<std::vector<int64_t>> before;
      for (int s = 0; s < p.shards(); ++s) before.push_back(p.blocks_of(s));
      p.append(uniform(random, 0, 3) == 0 ? uniform(random, 0, 2000) : uniform(random, 0, 30));
      expect_whole(p);
      if (testing::Test::HasFailure()) FAIL() << "round " << round;
      for (int s = 0; s < p.shards(); ++s) {
        const auto& now = p.blocks_of(s);
        ASSERT_TRUE(std::is_sorted(now.begin(), now.end()));
        ASSERT_TRUE(std::equal(before[s].begin(), before[s].end(), now.begin()));
      }
    }
  }
}

TEST(Placement, TokenByTokenGoesRoundTheShards) {
  Placement p(3, 4);
  for (int i = 0; i < 4 * 3 * 50; ++i) {
    p.append(1);
    expect_whole(p);
  }
  for (int s = 0; s < 3; ++s) EXPECT_EQ(p.tokens_of(s), 200);
}

TEST(Placement, ZigZag) {
  Placement p(2, 10);
  p.append(80);
  const auto runs = [](std::vector<Tokens> r) { return r; };
  EXPECT_EQ(p.runs(0, {0, 80}), runs({{0, 20}, {60, 80}}));
  EXPECT_EQ(p.runs(1, {0, 80}), runs({{20, 60}}));
  EXPECT_EQ(p.runs(0, {5, 65}), runs({{5, 20}, {60, 65}}));
  EXPECT_TRUE(p.runs(0, {20, 60}).empty());
}

TEST(Placement, WorkUnderACausalMaskIsEven) {
  Random random(2);
  for (int round = 0; round < 300; ++round) {
    const int64_t unit = uniform(random, 1, 16), tokens = uniform(random, 1, 5000);
    Placement p(uniform(random, 1, 9), unit);
    p.append(tokens);
    int64_t most = 0, least = tokens * tokens;
    for (int s = 0; s < p.shards(); ++s) {
      int64_t pairs = 0;
      for (const Tokens& run : p.runs(s, {0, tokens}))
        pairs += (run.begin + run.end + 1) * run.size() / 2;
      most = std::max(most, pairs), least = std::min(least, pairs);
    }
    ASSERT_LE(most - least, 3 * unit * (tokens + unit)) << p.shards() << " shards, " << tokens;
  }
}

TEST(Placement, RefusesNonsense) {
  EXPECT_THROW(Placement(0, 4), std::invalid_argument);
  EXPECT_THROW(Placement(2, 0), std::invalid_argument);
  EXPECT_THROW(Placement(2, 4).append(-1), std::invalid_argument);
}

}  // namespace
}  // namespace ringtide::kernels::ring
