#include "deploy/memory_split.h"

#include <gtest/gtest.h>

namespace ringtide::deploy {
namespace {

TEST(MemorySplit, SharesMakeUpTheBudgetAndSessionsHaveMostOfIt) {
  for (const int64_t mib : {16, 64, 100, 512, 4096, 12345, 1 << 20}) {
    const int64_t budget = mib << 20;
    const MemorySplit split = split_memory(budget);
    EXPECT_EQ(split.sessions + split.unwritten + split.store, budget) << mib;
    EXPECT_GE(split.sessions, budget * 2 / 3) << mib;
    EXPECT_LE(split.unwritten, 256 << 20) << mib;
    EXPECT_LE(split.store, 320 << 20) << mib;
    EXPECT_GE(split.store, 4 << 20) << mib;
  }
}

TEST(MemorySplit, NothingIsWithoutRoomHoweverSmallTheBudget) {
  for (const int64_t budget : {1, 15, 1000}) {
    const MemorySplit split = split_memory(budget);
    EXPECT_GT(split.sessions, 0) << budget;
    EXPECT_GT(split.unwritten, 0) << budget;  // 0: a unit would wait for ever
    EXPECT_GE(split.store, 0) << budget;
  }
}

}  // namespace
}  // namespace ringtide::deploy
