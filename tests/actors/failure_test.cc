// What happens to sessions when something under them fails.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "tests/support/failing_store.h"
#include "tests/support/system_fixture.h"

namespace ringtide::testing {
namespace {

using protocol::Code;
using protocol::FinishReason;
using Kind = FakePass::Kind;

class FailureTest : public SystemTest {
 protected:
  FailureTest() {
    wrap_store = [this](std::unique_ptr<storage::Store> store) {
      return std::make_unique<FailingStore>(std::move(store), faults);
    };
    start();
  }
  // Appends and answers in a session of its own, where nothing fails.
  Said undisturbed(const std::string& text, int64_t tokens) {
    const auto s = session("undisturbed");
    EXPECT_TRUE(append(*s, text).ok());
    return generate(*s, tokens);
  }
  // The engine throws at its `nth` pass of a kind from now on, once.
  void throw_at(Kind kind, int nth) {
    auto left = std::make_shared<std::atomic<int>>(nth);
    world.before_pass([kind, left](const FakePass& pass) {
      if (pass.kind == kind && --*left == 0) throw std::runtime_error("the engine broke");
    });
  }

  StoreFaults faults;
};

// -- the engine ----

TEST_F(FailureTest, AnAnswerGoesOnWhenTheWorkerDies) {
  const Said whole = undisturbed(words(100), 60);
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(100)).ok());
  for (const int nth : {1, 2, 20}) {
    throw_at(Kind::Decode, nth);
    const auto b = session("b" + std::to_string(nth));
    ASSERT_TRUE(append(*b, words(100)).ok());
    const Said said = generate(*b, 60);
    ASSERT_TRUE(said.outcome.ok()) << said.outcome.message;
    EXPECT_EQ(said.text, whole.text);
    EXPECT_EQ(said.tokens, whole.tokens);
  }
  EXPECT_EQ(world.engines(), 4);
  // A session that only had a place goes on as well.
  EXPECT_EQ(generate(*s, 60).text, whole.text);
}

TEST_F(FailureTest, IngestGoesOnWhenTheWorkerDies) {
  const Said whole = undisturbed(words(400), 20);
  throw_at(Kind::Prefill, 5);
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(400)).ok());
  EXPECT_EQ(generate(*s, 20).text, whole.text);
  EXPECT_EQ(world.engines(), 2);
}

TEST_F(FailureTest, WorkThatAlwaysKillsTheWorkerEndsInAnErrorAndOthersGoOn) {
  const auto s = session("poison");
  ASSERT_TRUE(append(*s, "short").ok());
  const uint64_t id = info(*s).id;
  world.before_pass([id](const FakePass& pass) {
    if (pass.kind == Kind::Prefill && pass.contexts.front() == id) {
      throw std::runtime_error("this one breaks it");
    }
  });
  const Said said = generate(*s, 5);
  EXPECT_EQ(said.outcome.code, Code::Internal);
  const auto other = session("other");
  ASSERT_TRUE(append(*other, words(50)).ok());
  EXPECT_TRUE(generate(*other, 5).outcome.ok());
  // When the cause is gone it works again.
  world.before_pass({});
  ASSERT_TRUE(append(*s, "again").ok());
  EXPECT_TRUE(generate(*s, 5).outcome.ok());
}

TEST_F(FailureTest, AnEngineThatCannotBeMadeIsSaidAtOnce) {
  stop();
  storage::StoreOptions store_options;
  store_options.fingerprint = fingerprint;
  auto store = storage::Store::open(path, store_options);
  ASSERT_TRUE(store.ok());
  actors::SystemOptions options;
  options.model = std::make_shared<model::Model>();
  options.store = std::move(store.value());
  options.make_engine = [](model::UnitStore&) -> std::unique_ptr<model::Engine> {
    throw model::ModelError("no such instruction");
  };
  EXPECT_THROW(actors::System system(std::move(options)), model::ModelError);
}

// -- its memory ----

TEST_F(FailureTest, SessionsBeyondTheBudgetTakeTurns) {
  world.max_contexts = 2;
  std::vector<std::shared_ptr<protocol::SessionHandle>> sessions;
  std::vector<std::string> said(5);
  for (int i = 0; i < 5; ++i) sessions.push_back(session("s" + std::to_string(i)));
  for (int turn = 0; turn < 3; ++turn) {
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(append(*sessions[i], words(40)).ok());
      const Said answer = generate(*sessions[i], 10);
      ASSERT_TRUE(answer.outcome.ok()) << answer.outcome.message;
      said[i] += answer.text + "|";
    }
  }
  for (int i = 1; i < 5; ++i) EXPECT_EQ(said[i], said[0]);
  EXPECT_GT(world.count(Kind::Restore), 5);
}

TEST_F(FailureTest, WhenAllAreAtWorkTheNextIsTold) {
  world.max_contexts = 1;
  const auto busy = session("busy");
  ASSERT_TRUE(append(*busy, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  const auto listener = std::make_shared<Listener>();
  keep_step(*busy, listener);
  auto speaking = begin(*busy, params, listener);
  listener->wait_for_tokens(3);
  const auto other = session("other");
  ASSERT_TRUE(append(*other, words(100)).ok());  // stored; it runs when there is room
  const Said refused = generate(*other, 5);
  EXPECT_EQ(refused.outcome.code, Code::Overloaded);
  speaking.cancel();
  EXPECT_EQ(speaking.wait().result.reason, FinishReason::Cancelled);
  // What is left of the cancelled turn may still have to run: it is told to try again later.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  Said said = generate(*other, 5);
  while (said.outcome.code == Code::Overloaded && std::chrono::steady_clock::now() < deadline)
    said = generate(*other, 5);
  EXPECT_TRUE(said.outcome.ok()) << said.outcome.message;
}

TEST_F(FailureTest, WhoComesBackIsNotRefused) {
  world.max_contexts = 1;
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(100)).ok());
  ASSERT_TRUE(generate(*s, 5).outcome.ok());
  const auto busy = session("busy");
  ASSERT_TRUE(append(*busy, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  const auto listener = std::make_shared<Listener>();
  keep_step(*busy, listener);
  auto speaking = begin(*busy, params, listener);
  listener->wait_for_tokens(3);
  ASSERT_TRUE(append(*s, words(100)).ok());
  EXPECT_EQ(generate(*s, 5).outcome.code, Code::Overloaded);
  // It gets the place of the other, and is held while its past runs.
  Gate gate;
  std::atomic<int> replays{0};
  world.before_pass([&](const FakePass& pass) {
    if (pass.kind == Kind::Replay && ++replays == 2) gate.wait();
  });
  speaking.cancel();
  EXPECT_EQ(speaking.wait().result.reason, FinishReason::Cancelled);
  EXPECT_TRUE(world.wait_for(
      [n = 0](const FakePass& pass) mutable { return pass.kind == Kind::Replay && ++n == 2; }));
  params.max_tokens = 5;
  auto answer = begin(*s, params);
  EXPECT_EQ(info(*s).state, "restoring");
  gate.open();
  const Said said = answer.wait();
  EXPECT_TRUE(said.outcome.ok()) << said.outcome.message;
  world.before_pass({});
}

TEST_F(FailureTest, APlaceThatIsNotWantedAnyMoreIsGivenBack) {
  world.max_contexts = 1;
  Gate gate;
  world.before_pass([&](const FakePass& pass) {
    if (pass.kind == Kind::Open) gate.wait();
  });
  const auto s = session("a"), other = session("b");
  ASSERT_TRUE(append(*s, "hello").ok());
  ASSERT_TRUE(append(*other, "hello").ok());
  auto speaking = begin(*s, {});
  EXPECT_TRUE(world.wait_for([](const FakePass& pass) { return pass.kind == Kind::Open; }));
  speaking.cancel();
  EXPECT_EQ(speaking.wait().result.reason, FinishReason::Cancelled);
  gate.open();
  while (info(*s).state != "idle") continue;  // it enters
  const Said said = generate(*other, 5);
  EXPECT_TRUE(said.outcome.ok()) << said.outcome.message;
  world.before_pass({});
}

TEST_F(FailureTest, WhatDoesNotFitEvenAloneIsSaid) {
  world.max_contexts = 0;
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(100)).ok());
  EXPECT_EQ(generate(*s, 5).outcome.code, Code::Overloaded);
}

TEST_F(FailureTest, ASlowReaderGivesUpItsPlaceAndGoesOnLater) {
  const Said whole = undisturbed("hello", 300);
  world.max_contexts = 1;
  const auto s = session("slow");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 300;
  const auto slow = std::make_shared<Listener>(true);
  auto speaking = begin(*s, params, slow);
  slow->wait_for_tokens(33);
  const auto other = session("other");
  ASSERT_TRUE(append(*other, words(20)).ok());
  EXPECT_TRUE(world.wait_for([&](const FakePass& pass) { return pass.kind == Kind::Decode; }));
  Said answer = generate(*other, 5);
  while (answer.outcome.code == Code::Overloaded) answer = generate(*other, 5);
  EXPECT_TRUE(answer.outcome.ok());
  slow->release(true);
  EXPECT_EQ(speaking.wait().text, whole.text);
}

// -- the store ----

TEST_F(FailureTest, AFullDiskRefusesAndLosesNothing) {
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello ").ok());
  faults.log_full = true;
  const auto refused = append(*s, "lost ");
  EXPECT_EQ(refused.code, Code::StorageFull);
  EXPECT_FALSE(refused.message.empty());
  EXPECT_EQ(generate(*s).outcome.code, Code::StorageFull);
  EXPECT_EQ(open("new").outcome.code, Code::StorageFull);
  EXPECT_EQ(info(*s).appended_bytes, 6u);
  faults.log_full = false;
  ASSERT_TRUE(append(*s, "world", 6).ok());
  const Said said = generate(*s);
  const auto clean = session("b");
  ASSERT_TRUE(append(*clean, "hello world").ok());
  EXPECT_EQ(generate(*clean).text, said.text);
}

TEST_F(FailureTest, AnswersInFlightFailTogetherInOrder) {
  const auto s = session("a");
  faults.log_full = true;
  std::vector<std::shared_ptr<Awaited<protocol::Outcome>>> answers;
  for (int i = 0; i < 20; ++i) {
    answers.push_back(std::make_shared<Awaited<protocol::Outcome>>());
    s->append(
        "piece ", 6 * i, [](protocol::Outcome) {},
        [answer = answers.back()](protocol::Outcome o, uint64_t) { answer->set(o); });
  }
  EXPECT_EQ(answers.front()->get().code, Code::StorageFull);
  // Those that came after the log was read again meet an offset that is not held.
  for (const auto& answer : answers) EXPECT_FALSE(answer->get().ok());
  EXPECT_EQ(info(*s).appended_bytes, 0u);
}

TEST_F(FailureTest, ADiskThatFillsDuringAnAnswer) {
  const Said whole = undisturbed("hello", 4000);
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  auto speaking = begin(*s, params);
  speaking.listener->wait_for_tokens(10);
  faults.log_full = true;
  const Said cut = speaking.wait();
  EXPECT_EQ(cut.outcome.code, Code::StorageFull);
  EXPECT_EQ(whole.text.compare(0, std::min(cut.text.size(), whole.text.size()), cut.text, 0,
                               std::min(cut.text.size(), whole.text.size())),
            0);
  faults.log_full = false;
  // What was shown is in the log, and the session goes on from there.
  ASSERT_TRUE(append(*s, "next").ok());
  EXPECT_GE(info(*s).tokens, static_cast<int64_t>(cut.tokens.size()));
  const Said live = generate(*s);
  EXPECT_TRUE(live.outcome.ok());
}

TEST_F(FailureTest, AHoldOnAFailedSessionDoesNotTouchTheNext) {
  auto stale = session("a");
  ASSERT_TRUE(append(*stale, "hello").ok());
  faults.log_throws = true;  // the archive fails, and every session with it
  EXPECT_FALSE(append(*stale, "lost").ok());
  Opened opened = open("a");
  while (!opened.outcome.ok()) opened = open("a");
  const auto s = opened.handle;
  ASSERT_TRUE(append(*s, "again").ok());
  protocol::GenerateParams params;
  params.max_tokens = 4000;
  const auto listener = std::make_shared<Listener>(true);
  auto speaking = begin(*s, params, listener);
  listener->wait_for_tokens(1);
  stale.reset();
  // A call of the same thread, after it on the same way.
  EXPECT_EQ(info(*s).state, "generating");
  listener->release(true);
  EXPECT_EQ(speaking.wait().result.reason, FinishReason::MaxTokens);
}

TEST_F(FailureTest, UnitsOfASessionThatCouldNotBeRemovedAreStored) {
  world.unit = 16;
  session("a");
  faults.stays = true;
  EXPECT_EQ(remove("a").code, Code::StorageFull);
  const auto again = session("a");
  ASSERT_TRUE(append(*again, words(200)).ok());
  EXPECT_TRUE(generate(*again).outcome.ok());
  const int64_t units = info(*again).units;
  EXPECT_GT(units, 10);
  restart();
  const auto found = list();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_GE(found[0].units, units);
}

TEST_F(FailureTest, NoAcknowledgementWaitsForUnits) {
  stop();
  Gate reached, gate;
  faults.before_put = [&] { reached.open(), gate.wait(); };
  world.unit = 16;
  start();
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(200)).ok());
  reached.wait();
  EXPECT_TRUE(append(*s, "more").ok());
  EXPECT_TRUE(generate(*s).outcome.ok());
  gate.open();
  stop();
}

TEST_F(FailureTest, UnitsThatCannotBeWrittenHurtNobody) {
  world.unit = 16;
  faults.units_full = true;
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(200)).ok());
  EXPECT_TRUE(generate(*s).outcome.ok());
  EXPECT_GT(info(*s).units, 10);
}

TEST_F(FailureTest, WritesOfManySessionsShareASync) {
  std::vector<std::shared_ptr<protocol::SessionHandle>> sessions;
  for (int i = 0; i < 8; ++i) sessions.push_back(session("s" + std::to_string(i)));
  std::vector<std::shared_ptr<Awaited<protocol::Outcome>>> answers;
  for (int i = 0; i < 50; ++i) {
    for (const auto& s : sessions) {
      answers.push_back(std::make_shared<Awaited<protocol::Outcome>>());
      s->append(
          "some text ", {}, [](protocol::Outcome) {},
          [answer = answers.back()](protocol::Outcome o, uint64_t) { answer->set(o); });
    }
  }
  for (const auto& answer : answers) EXPECT_TRUE(answer->get().ok());
  EXPECT_EQ(faults.records, 400);
  EXPECT_LT(faults.appends, faults.records);
}

}  // namespace
}  // namespace ringtide::testing
