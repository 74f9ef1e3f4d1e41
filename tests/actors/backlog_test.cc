#include "actors/backlog.h"

#include <gtest/gtest.h>

namespace ringtide::actors {
namespace {

TEST(BacklogTest, CountsTextUntilItsTokensHaveRun) {
  Backlog backlog;
  backlog.add(100);
  backlog.add(50);
  backlog.ran(0, 0);
  EXPECT_EQ(backlog.bytes(), 150u);  // not durable, so not run
  backlog.durable(10);
  backlog.ran(0, 8);
  EXPECT_EQ(backlog.bytes(), 150u);
  backlog.ran(4, 8);
  EXPECT_EQ(backlog.bytes(), 150u);
  backlog.ran(8, 8);  // tokens 9 and 10 wait for company, not for the model
  EXPECT_EQ(backlog.bytes(), 50u);
  backlog.durable(15);
  backlog.ran(12, 16);
  EXPECT_EQ(backlog.bytes(), 50u);
  backlog.ran(16, 16);
  EXPECT_EQ(backlog.bytes(), 0u);
}

TEST(BacklogTest, TextThatFillsNoBlockCountsNoLongerThanTheDiskTakes) {
  Backlog backlog;
  backlog.add(3);
  backlog.durable(1);
  backlog.ran(0, 0);
  EXPECT_EQ(backlog.bytes(), 0u);
}

}  // namespace
}  // namespace ringtide::actors
