#include "actors/batching.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace ringtide::actors {
namespace {

using Kind = Plan::Kind;
using Event = Batching::Event::Kind;
using Outcome = Batching::Outcome;
using Pause = Batching::Pause;

// A batching whose worker does one plan at a time, as told.
class BatchingTest : public ::testing::Test {
 protected:
  Plan take() {
    const auto plan = b.next();
    EXPECT_TRUE(plan.has_value());
    return plan.value_or(Plan{});
  }
  Plan run(Outcome outcome = Outcome::Ok, std::vector<Batching::EndedRow> ended = {}) {
    const Plan plan = take();
    b.done(plan.number, outcome, ended);
    return plan;
  }
  void enter(uint64_t session) {
    b.enter(session);
    EXPECT_EQ(run().kind, Kind::Enter);
    EXPECT_TRUE(b.present(session));
  }
  // A session enters, runs a block and is idle.
  void work(uint64_t session) {
    enter(session);
    b.block(session);
    EXPECT_EQ(run().kind, Kind::Block);
  }
  // A session asks for a place and there is no room; what comes before its turn is done.
  void refuse(uint64_t session) {
    b.enter(session);
    for (;;) {
      const Plan plan = take();
      const bool enters = plan.kind == Kind::Enter;
      b.done(plan.number, enters ? Outcome::NoRoom : Outcome::Ok, {});
      if (enters) return;
    }
  }
  // Events since the last call, in order.
  std::vector<std::pair<Event, uint64_t>> events() {
    std::vector<std::pair<Event, uint64_t>> all;
    for (const auto& event : b.take_events()) all.emplace_back(event.kind, event.session);
    return all;
  }
  using Events = std::vector<std::pair<Event, uint64_t>>;

  Batching b{Batching::Limits{.rows = 2, .steps = 4, .ahead = 2, .strikes = 3}};
};

TEST_F(BatchingTest, ALongReturnTakesTurnsWithAnAnswerAndCanBeLeft) {
  enter(1);
  b.start_row(1, 1);
  b.enter(2);
  int entering = 0, decoding = 0;
  for (int i = 0; i < 10; ++i) {
    const Plan plan = take();
    ++(plan.kind == Kind::Enter ? entering : decoding);
    b.done(plan.number, plan.kind == Kind::Enter ? Outcome::More : Outcome::Ok, {});
    EXPECT_FALSE(b.present(2));
  }
  EXPECT_EQ(entering, 5);
  EXPECT_EQ(decoding, 5);
  b.leave(2);
  EXPECT_EQ(take().kind, Kind::Leave);
}

TEST_F(BatchingTest, SeveralBlocksOfASessionShareAPlanAndTurnsStayFair) {
  b = Batching(Batching::Limits{.blocks = 4});
  enter(1);
  enter(2);
  for (int i = 0; i < 6; ++i) b.block(1);
  b.block(2);
  std::vector<std::pair<uint64_t, int32_t>> ran;
  for (int i = 0; i < 3; ++i) {
    const Plan plan = run();
    ran.emplace_back(plan.sessions[0], plan.blocks);
  }
  EXPECT_EQ(ran, (std::vector<std::pair<uint64_t, int32_t>>{{1, 4}, {2, 1}, {1, 2}}));
  EXPECT_FALSE(b.next());
}

TEST_F(BatchingTest, WorkThatFindsNoRoomCostsThePlaceAndNothingElse) {
  enter(1);
  enter(2);
  b.start_row(1, 7);
  b.start_row(2, 8);
  for (int i = 0; i < 2; ++i) b.block(1);
  const Plan plan = take();
  b.stop_row(1, 7);
  events();
  b.done(plan.number, Outcome::Ok, {}, {1});
  EXPECT_EQ(events(), (Events{{Event::RowStopped, 1}, {Event::Evicted, 1}}));
  EXPECT_FALSE(b.present(1));
  EXPECT_TRUE(b.present(2));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run().sessions, std::vector<uint64_t>{2});
  enter(1);
}

TEST_F(BatchingTest, NothingToDoIsNoPlan) {
  EXPECT_FALSE(b.next());
  enter(1);
  EXPECT_FALSE(b.next());
}

TEST_F(BatchingTest, StaysAheadByTwoPlans) {
  enter(1);
  for (int i = 0; i < 3; ++i) b.block(1);
  const Plan first = take();
  take();
  EXPECT_FALSE(b.next());
  b.done(first.number, Outcome::Ok, {});
  EXPECT_TRUE(b.next());
  EXPECT_FALSE(b.next());
}

TEST_F(BatchingTest, BlocksOfSeveralSessionsTakeTurns) {
  enter(1), enter(2), enter(3);
  for (int i = 0; i < 4; ++i) b.block(1);
  b.block(2), b.block(3), b.block(3);
  std::vector<uint64_t> order;
  while (auto plan = b.next()) {
    order.push_back(plan->sessions.front());
    b.done(plan->number, Outcome::Ok, {});
  }
  EXPECT_EQ(order, (std::vector<uint64_t>{1, 2, 3, 1, 3, 1, 1}));
}

TEST_F(BatchingTest, ALongIngestAndAnAnswerTakeTurns) {
  enter(1), enter(2);
  for (int i = 0; i < 10; ++i) b.block(1);
  b.start_row(2, 1);
  std::vector<Kind> kinds;
  for (int i = 0; i < 8; ++i) kinds.push_back(run().kind);
  for (int i = 1; i < 8; ++i) EXPECT_NE(kinds[i], kinds[i - 1]) << i;
}

TEST_F(BatchingTest, RowsBeyondABurstTakeTurns) {
  std::map<uint64_t, int> bursts;
  for (uint64_t s = 1; s <= 5; ++s) enter(s);
  for (uint64_t s = 1; s <= 5; ++s) b.start_row(s, 1);
  for (int i = 0; i < 10; ++i) {
    const Plan plan = run();
    ASSERT_EQ(plan.kind, Kind::Decode);
    EXPECT_EQ(plan.steps, 4);
    EXPECT_EQ(plan.sessions.size(), 2u);
    for (const uint64_t s : plan.sessions) ++bursts[s];
  }
  for (uint64_t s = 1; s <= 5; ++s) EXPECT_EQ(bursts[s], 4) << s;
}

TEST_F(BatchingTest, APausedRowIsLeftOut) {
  enter(1), enter(2);
  b.start_row(1, 1), b.start_row(2, 1);
  b.pause_row(1, Pause::Long);
  EXPECT_EQ(run().sessions, std::vector<uint64_t>{2});
  b.pause_row(1, Pause::No);
  EXPECT_EQ(run().sessions.size(), 2u);
}

TEST_F(BatchingTest, AnEndedRowIsGoneButNotItsSuccessor) {
  enter(1);
  b.start_row(1, 1);
  const Plan burst = take();
  b.start_row(1, 2);  // the session heard of the end before the plan was done
  b.done(burst.number, Outcome::Ok, {{1, 1}});
  EXPECT_EQ(run(Outcome::Ok, {{1, 2}}).kind, Kind::Decode);
  EXPECT_FALSE(b.next());
}

TEST_F(BatchingTest, AStopHoldsWhenNoPlanRunsTheRow) {
  enter(1);
  b.start_row(1, 1);
  const Plan first = take(), second = take();
  b.stop_row(1, 1);
  EXPECT_EQ(events(), Events{});
  b.done(first.number, Outcome::Ok, {{1, 1}});
  EXPECT_EQ(events(), Events{});
  b.done(second.number, Outcome::Ok, {});
  EXPECT_EQ(events(), (Events{{Event::RowStopped, 1}}));
  EXPECT_FALSE(b.next());
  b.start_row(1, 2);
  b.pause_row(1, Pause::Long);
  b.stop_row(1, 2);
  EXPECT_EQ(events(), (Events{{Event::RowStopped, 1}}));
}

TEST_F(BatchingTest, AStopIsOfOneRowAndLeavesTheNextAlone) {
  enter(1);
  b.start_row(1, 1);
  const Plan burst = take();
  b.stop_row(1, 1);
  b.start_row(1, 2);
  b.done(burst.number, Outcome::Ok, {});
  const auto told = b.take_events();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].kind, Event::RowStopped);
  EXPECT_EQ(told[0].row, 1u);
  b.stop_row(1, 1);  // late
  EXPECT_EQ(run().kind, Kind::Decode);
}

// -- room ----

TEST_F(BatchingTest, TheLongestIdleMakesRoom) {
  work(1), work(2), work(3);
  b.block(1);
  run();  // 2 is the one used longest ago
  b.enter(4);
  EXPECT_EQ(run(Outcome::NoRoom).kind, Kind::Enter);
  EXPECT_EQ(events(), (Events{{Event::Evicted, 2}}));
  const Plan leave = run();
  EXPECT_EQ(leave.kind, Kind::Leave);
  EXPECT_EQ(leave.sessions, std::vector<uint64_t>{2});
  EXPECT_EQ(run().sessions, std::vector<uint64_t>{4});
  EXPECT_TRUE(b.present(4));
  EXPECT_FALSE(b.present(2));
}

TEST_F(BatchingTest, ASlowReaderMakesRoomBeforeOneAtWork) {
  enter(1), enter(2);
  b.start_row(1, 1), b.start_row(2, 1);
  run();
  b.pause_row(2, Pause::Long);
  refuse(3);
  EXPECT_EQ(events(), (Events{{Event::Evicted, 2}}));
}

TEST_F(BatchingTest, WithoutRoomItIsRefusedAndAskedAgainWhenSomebodyIsIdle) {
  enter(1);
  b.start_row(1, 1);
  b.pause_row(1, Pause::Brief);
  refuse(2);
  b.pause_row(1, Pause::No);
  EXPECT_EQ(events(), (Events{{Event::Refused, 2}}));
  EXPECT_EQ(run(Outcome::Ok, {{1, 1}}).kind, Kind::Decode);
  EXPECT_EQ(run(Outcome::NoRoom).kind, Kind::Enter);  // now 1 is idle, and 2 asks again
  EXPECT_EQ(events(), (Events{{Event::Evicted, 1}}));
}

TEST_F(BatchingTest, WhoHasJustEnteredIsLeftItsPlaceUntilItHasWorked) {
  enter(1);
  refuse(2);
  EXPECT_EQ(events(), (Events{{Event::Refused, 2}}));
  b.block(1);
  EXPECT_EQ(run().kind, Kind::Block);
  EXPECT_EQ(run(Outcome::NoRoom).kind, Kind::Enter);
  EXPECT_EQ(events(), (Events{{Event::Evicted, 1}}));
}

TEST_F(BatchingTest, WhatDoesNotFitAloneDisturbsTheOthersOnce) {
  work(1), work(2);
  b.enter(3);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(run(Outcome::NoRoom).kind, Kind::Enter);
    EXPECT_EQ(run().kind, Kind::Leave);
  }
  EXPECT_EQ(run(Outcome::NoRoom).kind, Kind::Enter);
  EXPECT_EQ(events(), (Events{{Event::Evicted, 1}, {Event::Evicted, 2}, {Event::TooLarge, 3}}));
  work(1);
  EXPECT_FALSE(b.next());
  EXPECT_EQ(events(), Events{});
}

TEST_F(BatchingTest, OneThatWasNotAloneIsAskedAgain) {
  work(1);
  b.block(1);
  const Plan running = take();
  b.enter(2);
  const Plan entering = take();
  b.leave(1);  // while 2 is refused for its sake
  b.done(running.number, Outcome::Ok, {});
  b.done(entering.number, Outcome::NoRoom, {});
  EXPECT_EQ(run().kind, Kind::Leave);
  enter(2);
}

TEST_F(BatchingTest, AStoppedRowThatNothingRunsMakesRoomAtOnce) {
  work(1);
  b.start_row(1, 1);
  run();
  b.pause_row(1, Pause::Brief);
  refuse(2);
  EXPECT_EQ(events(), (Events{{Event::Refused, 2}}));
  EXPECT_FALSE(b.next());
  b.stop_row(1, 1);
  EXPECT_EQ(run(Outcome::NoRoom).kind, Kind::Enter);
  EXPECT_EQ(events(), (Events{{Event::RowStopped, 1}, {Event::Evicted, 1}}));
}

// -- a worker that dies ----

TEST_F(BatchingTest, WhoWasRefusedHearsOfALostEngine) {
  enter(1);
  b.start_row(1, 1);
  b.pause_row(1, Pause::Brief);
  refuse(2);
  events();
  b.lost();
  EXPECT_EQ(events(), (Events{{Event::EngineLost, 1}, {Event::EngineLost, 2}}));
  enter(2);
}

TEST_F(BatchingTest, ALostEngineLosesEveryPlace) {
  enter(1), enter(2);
  b.block(1);
  take();
  b.lost();
  EXPECT_EQ(events(), (Events{{Event::EngineLost, 1}, {Event::EngineLost, 2}}));
  EXPECT_FALSE(b.next());
  enter(1);
}

TEST_F(BatchingTest, WorkThatKillsTheWorkerAgainAndAgainIsGivenUp) {
  for (int strike = 1; strike <= 3; ++strike) {
    enter(1), enter(2);
    b.block(1), b.block(2);
    EXPECT_EQ(take().sessions.front(), 1u);
    b.lost();
    EXPECT_EQ(events(), (Events{{strike < 3 ? Event::EngineLost : Event::GivenUp, 1},
                                {Event::EngineLost, 2}}));
  }
}

TEST_F(BatchingTest, ARingMayBeLostMoreOftenThanAnEngine) {
  for (int loss = 1; loss <= 12; ++loss) {
    enter(1);
    b.block(1);
    take();
    b.lost(Batching::Cause::Ring);
    EXPECT_EQ(events(), (Events{{loss < 12 ? Event::EngineLost : Event::GivenUp, 1}}));
  }
}

TEST_F(BatchingTest, ADoneBlockForgivesStrikes) {
  for (int strike = 1; strike <= 5; ++strike) {
    enter(1);
    b.block(1);
    run();
    b.block(1);
    take();
    b.lost();
    EXPECT_EQ(events(), (Events{{Event::EngineLost, 1}}));
  }
}

TEST_F(BatchingTest, WorkOfALeavingSessionIsDropped) {
  enter(1);
  b.block(1), b.block(1), b.block(1);
  const Plan running = take();
  b.leave(1);
  EXPECT_EQ(take().kind, Kind::Leave);
  b.done(running.number, Outcome::Ok, {});
  EXPECT_FALSE(b.next());
  b.enter(1);  // while its Leave is under way
  EXPECT_EQ(take().kind, Kind::Enter);
}

// -- all together ----

TEST_F(BatchingTest, NobodyStarvesWhateverComes) {
  std::mt19937 random(3);
  std::map<uint64_t, int> waits;  // plans since a session with work was served
  std::map<uint64_t, int> blocks;
  std::set<uint64_t> rows;
  for (uint64_t s = 1; s <= 6; ++s) enter(s);
  uint64_t row = 0;
  for (int i = 0; i < 5000; ++i) {
    const uint64_t s = 1 + random() % 6;
    if (random() % 2) {
      b.block(s);
      ++blocks[s];
    } else if (!rows.contains(s)) {
      b.start_row(s, ++row);
      rows.insert(s);
    }
    const auto plan = b.next();
    if (!plan) continue;
    std::vector<Batching::EndedRow> ended;
    for (const uint64_t each : plan->sessions) {
      waits[each] = 0;
      if (plan->kind == Kind::Block) --blocks[each];
    }
    b.done(plan->number, Outcome::Ok, ended);
    for (uint64_t each = 1; each <= 6; ++each) {
      if (blocks[each] > 0 || rows.contains(each)) {
        ASSERT_LE(++waits[each], 2 * 6 + 2) << "session " << each;
      }
    }
  }
}

}  // namespace
}  // namespace ringtide::actors
