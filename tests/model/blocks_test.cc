#include "model/blocks.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace ringtide::model {
namespace {

void drain(BlockPlan& plan) {
  while (const int32_t n = plan.next()) plan.taken(n);
}

TEST(BlockPlan, BlocksFollowPositionsNotChunks) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 50; ++round) {
    BlockPlan whole(16), cut(16);
    whole.append(131);
    drain(whole);
    for (int64_t left = 131; left > 0;) {
      const int64_t n = std::min<int64_t>(left, 1 + static_cast<int64_t>(random() % 40));
      cut.append(n);
      if (random() % 2) drain(cut);
      left -= n;
    }
    drain(cut);
    EXPECT_EQ(whole.lengths(), cut.lengths());
    EXPECT_EQ(cut.processed(), 128);
  }
}

TEST(BlockPlan, GenerationRunsWhatWaitsAndThenTokenByToken) {
  BlockPlan plan(16);
  plan.append(20);
  plan.begin_generation();
  drain(plan);
  EXPECT_EQ(plan.lengths(), (std::vector<int32_t>{16, 4}));
  plan.token();
  EXPECT_EQ(plan.next(), 0);  // the first token waits for the second
  plan.token();
  EXPECT_EQ(plan.next(), 1);
  drain(plan);
  EXPECT_EQ(plan.processed(), 21);
  EXPECT_EQ(plan.total(), 22);
}

TEST(BlockPlan, TheLastTokenJoinsTheNextTurn) {
  BlockPlan plan(16);
  plan.append(5);
  plan.begin_generation();
  drain(plan);
  plan.token();
  plan.append(30);  // positions 5..35, the block ends at 16
  drain(plan);
  EXPECT_EQ(plan.lengths(), (std::vector<int32_t>{5, 11, 16}));
  plan.begin_generation();
  drain(plan);
  EXPECT_EQ(plan.processed(), 36);
}

TEST(BlockPlan, RunningLateGivesTheSameBlocks) {
  // A token-by-token generation whose blocks are taken only at the end, as in recovery, must not be
  // merged into one block.
  BlockPlan live(16), late(16);
  for (BlockPlan* p : {&live, &late}) {
    p->append(20);
    p->begin_generation();
    for (int i = 0; i < 6; ++i) {
      drain(*p);
      p->token();
    }
    p->append(3);
  }
  drain(live);
  drain(late);
  EXPECT_EQ(live.lengths(), late.lengths());
}

}  // namespace
}  // namespace ringtide::model
