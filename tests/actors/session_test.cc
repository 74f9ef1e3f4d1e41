// One session, as a client meets it.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_tokenizer.h"
#include "tests/support/system_fixture.h"

namespace ringtide::testing {
namespace {

using protocol::Code;
using protocol::FinishReason;

class SessionTest : public SystemTest {
 protected:
  SessionTest() { start(); }
};

std::string mixed_words(int count, int seed = 1) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "word" + std::to_string(i * seed % 97) + (i % 9 ? " " : " é ");
  return text;
}

TEST_F(SessionTest, AnswersWhatWasAppended) {
  const auto opened = open("a");
  ASSERT_TRUE(opened.outcome.ok()) << opened.outcome.message;
  EXPECT_TRUE(opened.created);
  EXPECT_EQ(opened.info.name, "a");
  EXPECT_EQ(opened.info.state, "idle");
  EXPECT_EQ(opened.info.template_family, "model");
  const auto appended = append(*opened.handle, "hello there");
  EXPECT_TRUE(appended.ok()) << appended.message;
  EXPECT_EQ(appended.offset, 11u);
  const Said said = generate(*opened.handle, 10);
  ASSERT_TRUE(said.outcome.ok()) << said.outcome.message;
  EXPECT_EQ(said.result.reason, FinishReason::MaxTokens);
  EXPECT_EQ(said.result.generated_tokens, 10);
  EXPECT_GT(said.result.prompt_tokens, 5);
  EXPECT_EQ(said.tokens.size(), 10u);
  EXPECT_FALSE(said.text.empty());
  const auto now = info(*opened.handle);
  EXPECT_EQ(now.appended_bytes, 11u);
  EXPECT_EQ(now.state, "idle");
  EXPECT_GT(now.bytes_store, 0);
  EXPECT_GT(now.bytes_ram, 0);
}

TEST_F(SessionTest, TextInAnyPiecesGivesTheSameTokens) {
  const std::string text = mixed_words(700);
  Said whole;
  for (const size_t cut : {text.size(), size_t{1}, size_t{7}, size_t{512}}) {
    const auto s = session("cut" + std::to_string(cut));
    std::vector<std::shared_ptr<Awaited<protocol::Outcome>>> answers;
    for (size_t i = 0; i < text.size(); i += cut) {
      answers.push_back(std::make_shared<Awaited<protocol::Outcome>>());
      s->append(
          text.substr(i, cut), i, [](protocol::Outcome) {},
          [answer = answers.back()](protocol::Outcome o, uint64_t) { answer->set(o); });
    }
    for (const auto& answer : answers) ASSERT_TRUE(answer->get().ok());
    const Said said = generate(*s);
    if (whole.text.empty()) whole = said;
    EXPECT_EQ(said.tokens, whole.tokens) << "in pieces of " << cut;
    EXPECT_EQ(said.text, whole.text);
  }
}

TEST_F(SessionTest, AConversationGoesOnAcrossRestarts) {
  const auto talk = [&](const std::string& name, bool restarts) {
    std::string all;
    for (int turn = 0; turn < 4; ++turn) {
      auto s = session(name);
      EXPECT_TRUE(append(*s, mixed_words(60, turn + 2)).ok());
      if (restarts) {
        s.reset();
        restart();
        s = session(name);
      }
      EXPECT_TRUE(append(*s, "and more").ok());
      all += generate(*s).text + "|";
      if (restarts) {
        s.reset();
        restart();
      }
    }
    return all;
  };
  const std::string plain = talk("plain", false);
  EXPECT_EQ(talk("restarted", true), plain);
}

TEST_F(SessionTest, RefusesAnOffsetItDoesNotHold) {
  const auto s = session("a");
  EXPECT_TRUE(append(*s, "12345", 0).ok());
  const auto wrong = append(*s, "12345", 0);
  EXPECT_EQ(wrong.code, Code::OffsetMismatch);
  EXPECT_EQ(wrong.offset, 5u);
  EXPECT_TRUE(append(*s, "678", wrong.offset).ok());
  EXPECT_EQ(info(*s).appended_bytes, 8u);
}

TEST_F(SessionTest, RefusesWhatMakesNoSense) {
  const auto s = session("a");
  EXPECT_EQ(append(*s, "").code, Code::Invalid);
  EXPECT_EQ(generate(*s).outcome.code, Code::Invalid);
  EXPECT_TRUE(append(*s, "x").ok());
  EXPECT_EQ(generate(*s, 0).outcome.code, Code::Invalid);
  EXPECT_TRUE(generate(*s, 2).outcome.ok());
  EXPECT_EQ(generate(*s, 2).outcome.code, Code::Invalid);  // nothing to answer

  protocol::OpenRequest request;
  request.name = "raw";
  request.template_family = "raw";
  const auto raw = open(request);
  EXPECT_EQ(generate(*raw.handle).outcome.code, Code::Invalid);
  EXPECT_TRUE(append(*raw.handle, "x").ok());
  EXPECT_TRUE(generate(*raw.handle, 2).outcome.ok());
  EXPECT_TRUE(generate(*raw.handle, 2).outcome.ok());  // goes on
}

TEST_F(SessionTest, EndsAtTheEndOfATurn) {
  world.end_every = 6;
  const auto s = session("a");
  for (int turn = 0; turn < 5; ++turn) {
    ASSERT_TRUE(append(*s, "turn " + std::to_string(turn)).ok());
    const Said said = generate(*s, 500);
    EXPECT_EQ(said.result.reason, FinishReason::EndOfTurn);
    EXPECT_EQ(std::count(said.tokens.begin(), said.tokens.end(), kTurnEnd), 0);
  }
}

TEST_F(SessionTest, StopsAtAStopTextAndShowsNothingOfIt) {
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  const Said free = generate(*s, 40);
  ASSERT_GT(free.text.size(), 30u);
  const std::string stop = free.text.substr(20, 5);
  const auto again = session("b");
  ASSERT_TRUE(append(*again, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 40;
  params.stop = {"never said", stop};
  const Said stopped = generate(*again, params);
  EXPECT_EQ(stopped.result.reason, FinishReason::StopText);
  // Tokens that made no text are told, too.
  EXPECT_EQ(static_cast<int64_t>(stopped.tokens.size()), stopped.result.generated_tokens);
  EXPECT_EQ(stopped.text, free.text.substr(0, free.text.find(stop)));
  // The context holds the stop text as it was generated: replay agrees on what follows.
  ASSERT_TRUE(append(*again, "next").ok());
  const Said next = generate(*again);
  const auto third = session("c");
  ASSERT_TRUE(append(*third, "hello").ok());
  generate(*third, params);
  ASSERT_TRUE(append(*third, "next").ok());
  restart();
  EXPECT_EQ(generate(*session("c")).text, next.text);
}

TEST_F(SessionTest, SamplingDependsOnSeedAndPositionOnly) {
  protocol::GenerateParams params;
  params.max_tokens = 12;
  params.temperature = 0.8f;
  params.seed = 42;
  const auto say = [&](const std::string& name) {
    const auto s = session(name);
    EXPECT_TRUE(append(*s, "once upon a time").ok());
    return generate(*s, params).text;
  };
  const std::string first = say("a");
  EXPECT_EQ(say("b"), first);
  params.seed = 43;
  EXPECT_NE(say("c"), first);
}

TEST_F(SessionTest, CancelStopsAtTheNextStepAndTheSessionGoesOn) {
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  auto speaking = begin(*s, params);
  speaking.listener->wait_for_tokens(5);
  EXPECT_EQ(append(*s, "more").code, Code::Busy);
  EXPECT_EQ(generate(*s).outcome.code, Code::Busy);
  EXPECT_EQ(remove("a").code, Code::Busy);
  speaking.cancel();
  const Said said = speaking.wait();
  EXPECT_TRUE(said.outcome.ok());
  EXPECT_EQ(said.result.reason, FinishReason::Cancelled);
  EXPECT_GE(said.result.generated_tokens, 5);
  speaking.cancel();  // too late, harmless
  // What was generated stands, live and after a restart.
  ASSERT_TRUE(append(*s, "next").ok());
  const auto before = info(*s);
  restart();
  const auto after = session("a");
  EXPECT_EQ(info(*after).tokens, before.tokens);
  EXPECT_TRUE(generate(*after).outcome.ok());
}

TEST_F(SessionTest, ASlowReaderIsWaitedFor) {
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 3000;
  const auto slow = std::make_shared<Listener>(true);
  auto speaking = begin(*s, params, slow);
  slow->wait_for_tokens(33);
  // Others go on meanwhile, and the slow one gets no further than it was.
  const auto other = session("b");
  ASSERT_TRUE(append(*other, mixed_words(300)).ok());
  EXPECT_EQ(generate(*other, 300).result.generated_tokens, 300);
  EXPECT_LT(slow->most_outstanding(), 3000u);
  slow->release(true);
  const Said said = speaking.wait();
  EXPECT_EQ(said.result.generated_tokens, 3000);
  const auto quick = session("c");
  ASSERT_TRUE(append(*quick, "hello").ok());
  EXPECT_EQ(generate(*quick, params).text, said.text);
}

TEST_F(SessionTest, AVanishedReaderEndsItsGeneration) {
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  const auto gone = std::make_shared<Listener>(true);
  auto speaking = begin(*s, params, gone);
  gone->wait_for_tokens(1);
  gone->release(false);
  EXPECT_EQ(speaking.wait().result.reason, FinishReason::Cancelled);
  EXPECT_TRUE(append(*s, "still here").ok());
}

TEST_F(SessionTest, DroppingTheLastHoldCancels) {
  auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  auto speaking = begin(*s, params);
  speaking.listener->wait_for_tokens(3);
  s.reset();
  EXPECT_EQ(speaking.wait().result.reason, FinishReason::Cancelled);
  EXPECT_FALSE(open("a").created);
}

TEST_F(SessionTest, TextIsAcceptedAtTheModelsPace) {
  stop();
  max_queued_bytes = 2000;
  Gate gate;
  world.before_pass([&](const FakePass& pass) {
    if (pass.kind == FakePass::Kind::Prefill) gate.wait();
  });
  start();
  const auto s = session("a");
  const std::string piece = mixed_words(300);
  ASSERT_GT(piece.size(), 2000u);
  const auto accepted = std::make_shared<Awaited<protocol::Outcome>>();
  const auto durable = std::make_shared<Awaited<protocol::Outcome>>();
  std::atomic<bool> early{false};
  s->append(
      piece, {}, [&, accepted](protocol::Outcome o) { early = true, accepted->set(o); },
      [durable](protocol::Outcome o, uint64_t) { durable->set(o); });
  EXPECT_TRUE(durable->get().ok());  // the disk does not wait for the model
  EXPECT_EQ(info(*s).appended_bytes, piece.size());
  EXPECT_FALSE(early);
  gate.open();
  EXPECT_TRUE(accepted->get().ok());
}

TEST_F(SessionTest, TokensRunWhileTextIsStillArriving) {
  const auto s = session("a");
  ASSERT_TRUE(append(*s, mixed_words(200)).ok());
  EXPECT_TRUE(world.wait_for([](const FakePass& p) { return p.kind == FakePass::Kind::Prefill; }));
}

}  // namespace
}  // namespace ringtide::testing
