// Every method and every outcome, through real sockets: the client library against the server.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "protocol/client.h"
#include "protocol/server.h"
#include "tests/protocol/fake_service.h"

namespace ringtide::protocol {
namespace {

class RpcTest : public testing::TestWithParam<std::string> {
 protected:
  RpcTest()
      : server_(listen_address(), service_, {}), client_(Client::connect(server_.address())) {}

  static std::string listen_address() {
    if (GetParam() == "tcp") return "127.0.0.1:0";
    return "unix:" + testing::TempDir() + "ringtide-rpc-" + std::to_string(getpid());
  }
  std::unique_ptr<ClientSession> open(const std::string& name) {
    OpenRequest request;
    request.name = name;
    return client_->open(request, nullptr, nullptr);
  }
  static std::function<std::string()> pieces(std::vector<std::string> texts) {
    auto left = std::make_shared<std::vector<std::string>>(std::move(texts));
    return [left]() {
      if (left->empty()) return std::string();
      std::string next = left->front();
      left->erase(left->begin());
      return next;
    };
  }
  template <class Call>
  static Outcome error_of(Call call) {
    try {
      call();
    } catch (const ClientError& e) {
      return e.outcome;
    }
    return {};
  }

  FakeService service_;
  Server server_;
  std::unique_ptr<Client> client_;
};

INSTANTIATE_TEST_SUITE_P(Sockets, RpcTest, testing::Values("tcp", "unix"),
                         [](const auto& info) { return info.param; });

TEST_P(RpcTest, OpenPassesTheRequestAndTellsWhatItOpened) {
  OpenRequest request;
  request.name = "böse \xF0\x9F\x8C\x8A";
  request.must_create = true;
  request.policy = {"infllm", 4096, 4, 128, 512, 16, 4, "softmax", 9};
  request.template_family = "chatml";
  request.system = "";
  SessionInfo info;
  bool created = false;
  const auto session = client_->open(request, &info, &created);
  EXPECT_TRUE(created);
  EXPECT_EQ(info.name, request.name);
  EXPECT_EQ(info.id, 1u);
  EXPECT_EQ(info.policy, "infllm");
  const OpenRequest& seen = service_.last_open;
  EXPECT_TRUE(seen.must_create);
  EXPECT_FALSE(seen.must_exist);
  EXPECT_EQ(seen.policy.window, 4096);
  EXPECT_EQ(seen.policy.sinks, 4);
  EXPECT_EQ(seen.policy.unit, 128);
  EXPECT_EQ(seen.policy.block, 512);
  EXPECT_EQ(seen.policy.select, 16);
  EXPECT_EQ(seen.policy.representatives, 4);
  EXPECT_EQ(seen.policy.vote, "softmax");
  EXPECT_EQ(seen.policy.probe, 9);
  EXPECT_EQ(seen.template_family, "chatml");
  EXPECT_EQ(seen.system, "");
}

TEST_P(RpcTest, OpenResumesById) {
  open("a");
  OpenRequest request;
  request.id = 1;
  request.must_exist = true;
  SessionInfo info;
  bool created = true;
  client_->open(request, &info, &created);
  EXPECT_FALSE(created);
  EXPECT_EQ(info.name, "a");
  EXPECT_EQ(service_.last_open.system, std::nullopt);
  EXPECT_EQ(service_.last_open.policy.sinks, -1);
}

TEST_P(RpcTest, EveryOutcomeReachesTheCaller) {
  for (int code = 1; code <= static_cast<int>(Code::Stopping); ++code) {
    const Outcome told{static_cast<Code>(code), "reason " + std::to_string(code),
                       static_cast<uint64_t>(code) << 40};
    service_.on_open = [&](const OpenRequest&) { return told; };
    const Outcome got = error_of([&]() { open("a"); });
    EXPECT_EQ(got.code, told.code);
    EXPECT_EQ(got.message, told.message);
    EXPECT_EQ(got.offset, told.offset);
  }
}

TEST_P(RpcTest, EveryMethodReportsItsError) {
  const auto session = open("a");
  service_.refuse = {Code::Storage, "disk on fire", 0};
  const auto expect = [&](const Outcome& got) {
    EXPECT_EQ(got.code, Code::Storage);
    EXPECT_EQ(got.message, "disk on fire");
  };
  expect(error_of([&]() { client_->list(); }));
  expect(error_of([&]() { client_->info("a", 0); }));
  expect(error_of([&]() { client_->tokenize("x"); }));
  expect(error_of([&]() { client_->server(); }));
  expect(error_of([&]() { session->info(); }));
  EXPECT_EQ(error_of([&]() { client_->remove("none", 0); }).code, Code::NotFound);
  EXPECT_EQ(error_of([&]() { client_->remove("a", 0); }).code, Code::Busy);
}

TEST_P(RpcTest, InfoCarriesEveryField) {
  const auto session = open("a");
  SessionInfo info{"a", 1, 2, "ingesting", "infllm", "chatml", 3,  4,  5, 6,
                   7,   8, 9, 10,          11,       12,       13, 14, 15, 19,
                   {{"the leader", true, 16, 17, 18}, {"shard 1", false, 0, 0, 0}}};
  service_.happen([&]() { service_.sessions["a"].info = info; });
  const SessionInfo got = session->info();
  EXPECT_EQ(
      std::tie(got.name, got.id, got.created_ms, got.state, got.policy, got.template_family),
      std::tie(info.name, info.id, info.created_ms, info.state, info.policy, info.template_family));
  EXPECT_EQ(std::tie(got.tokens, got.processed, got.appended_bytes, got.units, got.bytes_gpu,
                     got.bytes_ram, got.bytes_store),
            std::tie(info.tokens, info.processed, info.appended_bytes, info.units, info.bytes_gpu,
                     info.bytes_ram, info.bytes_store));
  EXPECT_EQ(std::tie(got.units_selected, got.reads_ram, got.reads_store, got.units_recomputed,
                     got.to_restore, got.restored, got.run_again),
            std::tie(info.units_selected, info.reads_ram, info.reads_store, info.units_recomputed,
                     info.to_restore, info.restored, info.run_again));
  ASSERT_EQ(got.shards.size(), info.shards.size());
  for (size_t i = 0; i < info.shards.size(); ++i) {
    const protocol::ShardInfo &a = got.shards[i], &b = info.shards[i];
    EXPECT_EQ(std::tie(a.name, a.answers, a.units, a.bytes_ram, a.bytes_store),
              std::tie(b.name, b.answers, b.units, b.bytes_ram, b.bytes_store));
  }
}

TEST_P(RpcTest, ListInfoRemove) {
  open("a");
  open("b");
  const auto all = client_->list();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name + all[1].name, "ab");
  EXPECT_EQ(client_->info("", all[1].id).name, "b");
  service_.until([&]() { return service_.sessions["a"].attached == 0; });
  client_->remove("a", 0);
  EXPECT_EQ(client_->list().size(), 1u);
}

TEST_P(RpcTest, TokenizeTakesAnyBytes) {
  const std::string text("a\0\xFF\xC3", 4);
  EXPECT_EQ(client_->tokenize(std::string(kMostTokenizedBytes, 'x')).size(), kMostTokenizedBytes);
  EXPECT_EQ(error_of([&] { client_->tokenize(std::string(kMostTokenizedBytes + 1, 'x')); }).code,
            Code::Invalid);
  const auto tokens = client_->tokenize(text);
  ASSERT_EQ(tokens.size(), 4u);
  EXPECT_EQ(tokens[2].first, 255);
  std::string joined;
  for (const auto& token : tokens) joined += token.second;
  EXPECT_EQ(joined, text);
}

TEST_P(RpcTest, ServerTellsItself) {
  const ServerInfo info = client_->server();
  EXPECT_EQ(info.version, "1.2.3");
  EXPECT_EQ(info.model, "fake");
  EXPECT_EQ(info.threads, 2);
}

TEST_P(RpcTest, AppendKeepsBytesAndOrderAcrossCuts) {
  const auto session = open("a");
  // Cut inside a character, and larger than one write.
  const std::string big(300'000, 'x');
  uint64_t last = 0;
  const uint64_t end =
      session->append(pieces({"gr\xC3", "\xBC\xC3\x9F ", big, "."}), 0,
                      [&](uint64_t bytes) { EXPECT_GT(bytes, std::exchange(last, bytes)); });
  EXPECT_EQ(service_.sessions["a"].text, "gr\xC3\xBC\xC3\x9F " + big + ".");
  EXPECT_EQ(end, service_.sessions["a"].text.size());
  EXPECT_EQ(session->append(pieces({"more"}), std::nullopt, nullptr), end + 4);
}

TEST_P(RpcTest, AppendAtAnOffsetIsExactlyOnce) {
  const auto session = open("a");
  session->append(pieces({"hello"}), 0, nullptr);
  const Outcome again = error_of([&]() { session->append(pieces({"hello", "more"}), 0, nullptr); });
  EXPECT_EQ(again.code, Code::OffsetMismatch);
  EXPECT_EQ(again.offset, 5u);
  EXPECT_EQ(service_.sessions["a"].text, "hello");
  EXPECT_EQ(session->append(pieces({" you"}), again.offset, nullptr), 9u);
}

TEST_P(RpcTest, EmptyAppendChangesNothingAndChecksTheOffset) {
  const auto session = open("a");
  session->append(pieces({"hello"}), 0, nullptr);
  EXPECT_EQ(session->append(pieces({}), std::nullopt, nullptr), 5u);
  EXPECT_EQ(session->append(pieces({}), 5, nullptr), 5u);
  const Outcome wrong = error_of([&]() { session->append(pieces({}), 7, nullptr); });
  EXPECT_EQ(wrong.code, Code::OffsetMismatch);
  EXPECT_EQ(wrong.offset, 5u);
}

TEST_P(RpcTest, AFailureInTheMiddleEndsTheAppendAndDropsTheRest) {
  const auto session = open("a");
  int writes = 0;
  service_.on_append = [&](FakeService::State&, FakeService::Append append) {
    const Outcome outcome = ++writes == 3 ? Outcome{Code::StorageFull, "no room", 0} : Outcome{};
    append.accepted(outcome);
    append.durable(outcome, writes);
  };
  const Outcome got = error_of([&]() {
    session->append(pieces({"a", "b", "c", "d", "e"}), std::nullopt, nullptr);
  });
  EXPECT_EQ(got.code, Code::StorageFull);
  EXPECT_EQ(got.message, "no room");
  EXPECT_EQ(writes, 3);
}

TEST_P(RpcTest, GenerateStreamsTextTokensAndResult) {
  const auto session = open("a");
  session->append(pieces({"one two three four"}), 0, nullptr);
  GenerateParams params;
  params.max_tokens = 3;
  params.temperature = 0.5f;
  params.top_p = 0.25f;
  params.min_p = 0.125f;
  params.repetition_penalty = 1.5f;
  params.top_k = 7;
  params.penalty_window = 8;
  params.seed = 1ull << 63;
  params.stop = {"", "end", "\n"};
  std::string text;
  std::vector<int32_t> tokens;
  const GenerateResult result = session->generate(params, [&](const TextChunk& chunk) {
    text += chunk.text;
    tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
    return true;
  });
  EXPECT_EQ(text, "one two three ");
  EXPECT_EQ(tokens, (std::vector<int32_t>{3, 3, 5}));
  EXPECT_EQ(result.reason, FinishReason::EndOfTurn);
  EXPECT_EQ(result.generated_tokens, 3);
  const GenerateParams& seen = service_.sessions["a"].generation->params;
  EXPECT_EQ(std::tie(seen.temperature, seen.top_p, seen.min_p, seen.repetition_penalty),
            std::tie(params.temperature, params.top_p, params.min_p, params.repetition_penalty));
  EXPECT_EQ(std::tie(seen.top_k, seen.penalty_window, seen.seed, seen.stop),
            std::tie(params.top_k, params.penalty_window, params.seed, params.stop));
}

TEST_P(RpcTest, GenerateReportsResultsAndErrors) {
  const auto session = open("a");
  const GenerateResult told{FinishReason::StopText, 1, 2, 0.25, 0.5, 3, 4, 5};
  service_.on_generate = [&](auto&, auto generation) { generation->done({}, told); };
  const auto ignore = [](const TextChunk&) { return true; };
  const GenerateResult got = session->generate({}, ignore);
  EXPECT_EQ(got.reason, told.reason);
  EXPECT_EQ(
      std::tie(got.prompt_tokens, got.generated_tokens, got.seconds_to_first, got.seconds),
      std::tie(told.prompt_tokens, told.generated_tokens, told.seconds_to_first, told.seconds));
  EXPECT_EQ(std::tie(got.units_selected, got.reads_ram, got.reads_store),
            std::tie(told.units_selected, told.reads_ram, told.reads_store));
  service_.on_generate = [&](auto&, auto generation) {
    generation->done({Code::Busy, "already generating", 0}, {});
  };
  EXPECT_EQ(error_of([&]() { session->generate({}, ignore); }).code, Code::Busy);
}

TEST_P(RpcTest, TheChunkFunctionMayUseTheClient) {
  const auto session = open("a");
  session->append(pieces({"one two"}), 0, nullptr);
  int calls = 0;
  session->generate({}, [&](const TextChunk&) {
    calls += static_cast<int>(client_->list().size());
    return true;
  });
  EXPECT_EQ(calls, 2);
}

TEST_P(RpcTest, WaitIngestedPollsUntilIdle) {
  const auto session = open("a");
  service_.happen([&]() { service_.sessions["a"].info.state = "ingesting"; });
  std::vector<std::string> states;
  session->wait_ingested([&](const SessionInfo& info) {
    states.push_back(info.state);
    if (states.size() == 2) service_.happen([&]() { service_.sessions["a"].info.state = "idle"; });
  });
  EXPECT_EQ(states, (std::vector<std::string>{"ingesting", "ingesting", "idle"}));
}

TEST_P(RpcTest, TwoClientsOnOneThreadShareItsLoop) {
  const auto other = Client::connect(server_.address());
  open("a");
  EXPECT_EQ(other->list().size(), 1u);
}

TEST_P(RpcTest, DroppingTheSessionReleasesIt) {
  auto session = open("a");
  service_.until([&]() { return service_.sessions["a"].attached == 1; });
  session.reset();
  client_->server();  // the release is on its way before this call
  service_.until([&]() { return service_.sessions["a"].attached == 0; });
}

}  // namespace
}  // namespace ringtide::protocol
