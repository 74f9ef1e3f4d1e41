#include "actors/session_log.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace ringtide::actors {
namespace {

using storage::Appended;
using storage::Began;
using storage::Ended;
using storage::Generated;
using storage::LogRecord;
using storage::Opened;

Opened opened(int32_t block) {
  Opened record;
  record.policy.block = block;
  return record;
}

SessionLog replay(const std::vector<LogRecord>& records) {
  SessionLog log;
  for (const LogRecord& record : records) EXPECT_EQ(log.apply(record), "");
  return log;
}

Appended text(std::vector<int32_t> tokens) {
  return {.text = "x", .consumed = 1, .tokens = tokens};
}

Began began(std::vector<int32_t> tokens) {
  Began record;
  record.tokens = std::move(tokens);
  return record;
}

TEST(SessionLogTest, BlocksFollowTurnsAndPositions) {
  const auto log = replay({opened(4), text({1, 2, 3, 4, 5}), began({6, 7}), Generated{{8, 9, 10}},
                           Ended{.tokens = {11}}, text({12, 13})});
  // 1-4 fill a block; 5-7 are cut short by the generation; 8 and 9 run alone; 10 waits for what
  // follows it.
  EXPECT_EQ(log.blocks(), (std::vector<int32_t>{4, 3, 1, 1, 3}));
  EXPECT_EQ(log.runnable(), 12);
  EXPECT_EQ(log.tokens().size(), 13u);
}

TEST(SessionLogTest, GeneratedTokensMayComeInAnyGroups) {
  const auto one = replay({opened(4), text({1}), Began{}, Generated{{2, 3, 4, 5, 6}}, Ended{}});
  const auto many = replay({opened(4), text({1}), Began{}, Generated{{2}}, Generated{{3, 4}},
                            Generated{{5}}, Generated{{6}}, Ended{}});
  EXPECT_EQ(one.tokens(), many.tokens());
  EXPECT_EQ(one.blocks(), many.blocks());
}

TEST(SessionLogTest, BlocksDoNotDependOnHowTextArrived) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const int32_t block = 1 + random() % 9;
    std::vector<LogRecord> fine{opened(block)}, coarse{opened(block)};
    for (int turn = 0; turn < 4; ++turn) {
      std::vector<int32_t> tokens(random() % 30);
      for (const int32_t token : tokens) fine.emplace_back(text({token}));
      coarse.emplace_back(text(tokens));
      const Generated answer{std::vector<int32_t>(random() % 12, 7)};
      for (auto* log : {&fine, &coarse}) {
        log->emplace_back(began({1}));
        log->emplace_back(answer);
        log->emplace_back(Ended{.tokens = {2}});
      }
    }
    const auto a = replay(fine), b = replay(coarse);
    ASSERT_EQ(a.tokens(), b.tokens());
    ASSERT_EQ(a.blocks(), b.blocks());
    ASSERT_EQ(std::accumulate(a.blocks().begin(), a.blocks().end(), 0), a.runnable());
    int64_t at = 0;
    for (const int32_t length : a.blocks()) {
      ASSERT_LE(at % block + length, block);
      at += length;
    }
  }
}

TEST(SessionLogTest, RefusesRecordsOutOfPlace) {
  const auto refused = [](std::vector<LogRecord> before, LogRecord record) {
    SessionLog log = replay(before);
    const auto tokens = log.tokens();
    const bool refuses = !log.apply(std::move(record)).empty();
    EXPECT_EQ(log.tokens(), tokens);
    return refuses;
  };
  EXPECT_TRUE(refused({}, text({1})));
  EXPECT_TRUE(refused({}, opened(0)));
  EXPECT_TRUE(refused({opened(4)}, opened(4)));
  EXPECT_TRUE(refused({opened(4)}, Generated{{1}}));
  EXPECT_TRUE(refused({opened(4)}, Ended{}));
  EXPECT_TRUE(refused({opened(4), Began{}}, Began{}));
  EXPECT_TRUE(refused({opened(4), Began{}}, text({1})));
  EXPECT_TRUE(refused({opened(4)}, Appended{.text = "ab", .consumed = 3, .tokens = {}}));
  EXPECT_FALSE(refused({opened(4), text({1}), Began{}, Ended{}}, Began{}));
}

TEST(SessionLogTest, KeepsTailOffsetAndTurn) {
  const auto log =
      replay({opened(4), Appended{.text = "hel", .consumed = 0, .tokens = {}, .opens_turn = 1},
              Appended{.text = "lo wor", .consumed = 5, .tokens = {1, 2}}});
  EXPECT_EQ(log.state().tail, " wor");
  EXPECT_EQ(log.state().offset, 9u);
  EXPECT_EQ(log.state().records, 3u);
  EXPECT_TRUE(log.state().user_turn);
}

TEST(SessionLogTest, PolicySurvivesTheLog) {
  model::PolicyConfig config;
  config.kind = model::PolicyKind::Streaming;
  config.vote = model::HeadVote::Sum;
  config.true_positions = true;
  config.window = 77;
  config.representatives = 3;
  config.probe = 5;
  EXPECT_EQ(to_config(to_record(config)), config);
}

}  // namespace
}  // namespace ringtide::actors
