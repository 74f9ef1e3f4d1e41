// The scheduler among a worker and sessions that the test plays.
#include "actors/scheduler.h"

#include <gtest/gtest.h>

#include <caf/all.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <variant>

namespace ringtide::actors {
namespace {

// What an actor was sent, in order.
template <class T>
class Inbox {
 public:
  void push(T value) {
    const std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  T pop() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::minutes(1), [&] { return !values_.empty(); })) {
      ADD_FAILURE() << "nothing came within a minute";
      return {};
    }
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> values_;
};

using Told = std::variant<std::monostate, Entered, Refused, RowStopped, Left>;

SessionActor::behavior_type played_session(SessionActor::pointer, Inbox<Told>* told) {
  return {[](const AppendCall&) {},
          [](const GenerateCall&) {},
          [](const CancelCall&) {},
          [](const Taken&) {},
          [](const StateCall&) {},
          [](const Detached&) {},
          [](const Retire&) { return Retired{true}; },
          [](const Loaded&) {},
          [](const Written&) {},
          [told](const Entered& m) { told->push(m); },
          [told](const Refused& m) { told->push(m); },
          [](const EnterProgress&) {},
          [](const Ran&) {},
          [](const Stepped&) {},
          [told](const RowStopped& m) { told->push(m); },
          [told](const Left& m) { told->push(m); }};
}

WorkerActor::behavior_type played_worker(WorkerActor::pointer, Inbox<WorkOrder>* orders) {
  return {[orders](WorkOrder& m) { orders->push(std::move(m)); }, [](const HandOver&) {}};
}

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() {
    scheduler = system.spawn(actors::scheduler, Batching::Limits{});
    worker = system.spawn(played_worker, &orders);
    session = system.spawn(played_session, &told);
    caf::anon_send(scheduler, UseWorker{worker, {}, {}});
  }
  ~SchedulerTest() override {
    for (const auto& each :
         {caf::actor_cast<caf::actor>(scheduler), caf::actor_cast<caf::actor>(worker),
          caf::actor_cast<caf::actor>(session)}) {
      caf::anon_send_exit(each, caf::exit_reason::user_shutdown);
    }
  }

  void enter(uint64_t epoch) {
    Enter request;
    request.from = session;
    request.id = 1;
    request.epoch = epoch;
    request.tokens = std::make_shared<const std::vector<model::TokenId>>();
    request.lengths = std::make_shared<const std::vector<int32_t>>();
    caf::anon_send(scheduler, std::move(request));
  }
  WorkOrder order(Plan::Kind kind) {
    WorkOrder order = orders.pop();
    EXPECT_EQ(order.plan.kind, kind);
    return order;
  }
  void done(const WorkOrder& order, int64_t units = 0) {
    PlanDone done;
    done.plan = order.plan.number;
    done.entered.units = units;
    caf::anon_send(scheduler, std::move(done));
  }
  template <class T>
  T hears() {
    Told what = told.pop();
    EXPECT_TRUE(std::holds_alternative<T>(what)) << "kind " << what.index();
    return std::holds_alternative<T>(what) ? std::get<T>(what) : T{};
  }

  Inbox<WorkOrder> orders;
  Inbox<Told> told;
  caf::actor_system_config configuration;
  caf::actor_system system{configuration};
  SchedulerActor scheduler;
  WorkerActor worker;
  SessionActor session;
};

TEST_F(SchedulerTest, APlaceIsTheOneThatWasAskedForLast) {
  enter(1);
  const WorkOrder first = order(Plan::Kind::Enter);
  caf::anon_send(scheduler, Leave{1, 1});
  enter(3);
  done(first, 10);
  done(order(Plan::Kind::Leave));
  done(order(Plan::Kind::Enter), 30);
  const auto entered = hears<Entered>();
  EXPECT_EQ(entered.epoch, 3u);
  EXPECT_EQ(entered.stats.units, 30);
}

TEST_F(SchedulerTest, WorkForAPlaceThatIsNotThereIsAnswered) {
  enter(1);
  const WorkOrder entering = order(Plan::Kind::Enter);
  caf::anon_send(scheduler, HandBlock{1, 1, {5}});
  const auto left = hears<Left>();
  EXPECT_EQ(left.epoch, 1u);
}

TEST_F(SchedulerTest, AStopNamesItsRow) {
  enter(1);
  done(order(Plan::Kind::Enter));
  hears<Entered>();
  caf::anon_send(scheduler, StopRow{1, 1, 7});
  const auto stopped = hears<RowStopped>();
  EXPECT_EQ(stopped.epoch, 1u);
  EXPECT_EQ(stopped.row, 7u);
}

}  // namespace
}  // namespace ringtide::actors
