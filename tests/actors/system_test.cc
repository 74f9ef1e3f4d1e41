// Several sessions in one house: opening, listing, limits, fairness, going down.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "tests/support/system_fixture.h"

namespace ringtide::testing {
namespace {

using protocol::Code;
using protocol::FinishReason;
using Kind = FakePass::Kind;

using ManySessionsTest = SystemTest;

TEST_F(ManySessionsTest, OpenByNameAndById) {
  start();
  EXPECT_EQ(open("a", true).outcome.code, Code::NotFound);
  const auto first = open("a");
  ASSERT_TRUE(first.outcome.ok());
  EXPECT_TRUE(first.created);
  const auto again = open("a");
  EXPECT_FALSE(again.created);
  EXPECT_EQ(again.info.id, first.info.id);
  protocol::OpenRequest request;
  request.id = first.info.id;
  EXPECT_EQ(open(request).info.name, "a");
  request.id = 999;
  EXPECT_EQ(open(request).outcome.code, Code::NotFound);
  request = {};
  request.name = "a";
  request.must_create = true;
  EXPECT_EQ(open(request).outcome.code, Code::Exists);
  restart();
  EXPECT_EQ(open(request).outcome.code, Code::Exists);
  request.name = "\n";
  EXPECT_EQ(open(request).outcome.code, Code::Invalid);
  request.name = "b";
  request.policy.name = "nonsense";
  EXPECT_EQ(open(request).outcome.code, Code::Invalid);
  request.policy = {};
  request.template_family = "nonsense";
  EXPECT_EQ(open(request).outcome.code, Code::Invalid);
}

TEST_F(ManySessionsTest, ASessionKeepsItsPolicy) {
  start();
  protocol::OpenRequest request;
  request.name = "a";
  request.policy.name = "streaming";
  EXPECT_EQ(open(request).info.policy, "streaming");
  restart();
  EXPECT_EQ(open("a").info.policy, "streaming");
}

TEST_F(ManySessionsTest, AnotherModelsSessionIsRefusedByName) {
  start();
  session("a").reset();
  const std::string old = std::exchange(fingerprint, "00000000000000000000000000000002");
  restart();
  const auto refused = open("a");
  EXPECT_EQ(refused.outcome.code, Code::ModelMismatch);
  EXPECT_NE(refused.outcome.message.find(old), std::string::npos);
  EXPECT_NE(refused.outcome.message.find(fingerprint), std::string::npos);
  fingerprint = old;
  restart();
  EXPECT_TRUE(open("a").outcome.ok());
}

TEST_F(ManySessionsTest, ListsWhatRunsAndWhatIsStored) {
  start();
  ASSERT_TRUE(append(*session("stored"), "some text here").ok());
  restart();
  const auto live = session("live");
  ASSERT_TRUE(append(*live, "hello").ok());
  auto infos = list();
  ASSERT_EQ(infos.size(), 2u);
  std::sort(infos.begin(), infos.end(), [](auto& a, auto& b) { return a.name < b.name; });
  EXPECT_EQ(infos[0].state, "idle");
  EXPECT_EQ(infos[1].state, "stored");
  EXPECT_EQ(infos[1].appended_bytes, 14u);
  EXPECT_GT(infos[1].tokens, 0);
  EXPECT_GT(infos[1].bytes_store, 0);
  EXPECT_EQ(infos[1].policy, "infllm");

  const auto one = [&](const std::string& name) {
    auto answer = std::make_shared<Awaited<std::pair<protocol::Outcome, protocol::SessionInfo>>>();
    service().info(name, 0, [answer](protocol::Outcome o, protocol::SessionInfo i) {
      answer->set({o, i});
    });
    return answer->get();
  };
  EXPECT_EQ(one("stored").second.tokens, infos[1].tokens);
  EXPECT_EQ(one("live").second.appended_bytes, 5u);
  EXPECT_EQ(one("nobody").first.code, Code::NotFound);
  EXPECT_EQ(one("").first.code, Code::Invalid);
}

TEST_F(ManySessionsTest, RemovesWhatRunsAndWhatIsStored) {
  start();
  const auto a = session("a");
  ASSERT_TRUE(append(*a, words(100)).ok());
  EXPECT_TRUE(remove("a").ok());
  EXPECT_EQ(append(*a, "x").code, Code::Internal);  // the hold is on something gone
  EXPECT_EQ(open("a", true).outcome.code, Code::NotFound);
  session("b").reset();
  restart();
  EXPECT_TRUE(remove("b").ok());
  EXPECT_EQ(remove("b").code, Code::NotFound);
  EXPECT_EQ(remove("").code, Code::Invalid);
  EXPECT_TRUE(list().empty());
  EXPECT_TRUE(open("a").created);
}

TEST_F(ManySessionsTest, OpenSessionsAreLimitedAndUnheldOnesMakeRoom) {
  max_sessions = 2;
  start();
  auto a = session("a");
  const auto b = session("b");
  ASSERT_TRUE(append(*a, "kept").ok());
  EXPECT_EQ(open("c").outcome.code, Code::Overloaded);
  a.reset();
  EXPECT_TRUE(open("c").outcome.ok());
  EXPECT_EQ(info(*session("a")).appended_bytes, 4u);
}

TEST_F(ManySessionsTest, SaysWhatItIs) {
  start();
  const auto ask = [&] {
    auto answer = std::make_shared<Awaited<protocol::ServerInfo>>();
    service().server([answer](protocol::Outcome, protocol::ServerInfo i) { answer->set(i); });
    return answer->get();
  };
  EXPECT_GT(ask().ram_budget, 0) << "before anything was done";
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "x").ok());
  ASSERT_TRUE(generate(*s, 2).outcome.ok());
  const protocol::ServerInfo server = ask();
  EXPECT_EQ(server.version, "test");
  EXPECT_EQ(server.model, "fake");
  EXPECT_EQ(server.fingerprint, fingerprint);
  EXPECT_EQ(server.sessions, 1);
  EXPECT_EQ(server.active, 1);
  EXPECT_GT(server.ram_used, 0);

  auto tokens = std::make_shared<Awaited<std::vector<std::pair<int32_t, std::string>>>>();
  service().tokenize("ab c", [tokens](protocol::Outcome, auto list) { tokens->set(list); });
  const auto pieces = tokens->get();
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].second, "ab");
}

TEST_F(ManySessionsTest, EachSaysTheSameAsAlone) {
  start();
  const auto talk = [&](const std::string& name) {
    std::string all;
    const auto s = session(name);
    for (int turn = 0; turn < 4; ++turn) {
      EXPECT_TRUE(append(*s, words(30 + 10 * turn)).ok());
      all += generate(*s, 20 + turn).text + "|";
    }
    return all;
  };
  const std::string alone = talk("alone");
  std::vector<std::string> said(6);
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&, i] { said[i] = talk("together" + std::to_string(i)); });
  }
  for (auto& client : clients) client.join();
  for (const auto& each : said) EXPECT_EQ(each, alone);
}

TEST_F(ManySessionsTest, ALongIngestAndAnAnswerShareTheEngine) {
  start();
  const auto s = session("answers");
  ASSERT_TRUE(append(*s, "hello").ok());
  const auto listener = std::make_shared<Listener>();
  keep_step(*s, listener);
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  auto speaking = begin(*s, params, listener);
  listener->wait_for_tokens(3);
  const auto ingest = session("ingests");
  const uint64_t id = info(*ingest).id;
  ASSERT_TRUE(append(*ingest, words(2000)).ok());
  const int64_t blocks = info(*ingest).tokens / 64;
  ASSERT_GT(blocks, 50);
  std::atomic<int64_t> ran{0};
  EXPECT_TRUE(world.wait_for([&](const FakePass& pass) {
    return pass.kind == Kind::Prefill && pass.contexts.front() == id && ++ran == blocks;
  }));
  speaking.cancel();
  speaking.wait();
  // Blocks that ran one after another, with no step of the answer between them.
  int64_t in_a_row = 0, most = 0;
  for (const FakePass& pass : world.passes()) {
    if (pass.kind == Kind::Decode) in_a_row = 0;
    if (pass.kind == Kind::Prefill && pass.contexts.front() == id) {
      most = std::max(most, ++in_a_row);
    }
  }
  EXPECT_LE(most, 2);
}

TEST_F(ManySessionsTest, UnitsReachTheStore) {
  world.unit = 16;
  start();
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(100)).ok());
  ASSERT_TRUE(generate(*s, 4).outcome.ok());
  const auto units = info(*s).units;
  EXPECT_GT(units, 10);
  restart();
  const auto infos = list();
  ASSERT_EQ(infos.size(), 1u);
  EXPECT_EQ(infos[0].units, units);
}

// A session that nothing is asked of any more has what it did in the store all the same.
TEST_F(ManySessionsTest, UnitsReachTheStoreThoughTheyAreLate) {
  world.unit = 16;
  world.late = 5;
  start();
  const auto s = session("a");
  ASSERT_TRUE(append(*s, words(100)).ok());
  int64_t units = 0;
  EXPECT_TRUE(world.wait_for([&](const FakePass& pass) {
    if (pass.kind == FakePass::Kind::HandOver) units += pass.tokens;
    return units > 10;
  }));
}

TEST_F(ManySessionsTest, GoingDownEndsWhatRunsAndKeepsIt) {
  start();
  const auto s = session("a");
  ASSERT_TRUE(append(*s, "hello").ok());
  protocol::GenerateParams params;
  params.max_tokens = 1000000;
  auto speaking = begin(*s, params);
  speaking.listener->wait_for_tokens(7);
  stop();
  const Said said = speaking.wait();
  EXPECT_EQ(said.outcome.code, Code::Stopping);
  EXPECT_FALSE(append(*s, "too late").ok());
  start();
  const auto again = session("a");
  EXPECT_GE(info(*again).tokens, 7);
  ASSERT_TRUE(append(*again, "next").ok());
  EXPECT_TRUE(generate(*again).outcome.ok());
}

}  // namespace
}  // namespace ringtide::testing
