// Flow control and cancellation, seen from both ends.
#include <gtest/gtest.h>

#include <thread>

#include "protocol/client.h"
#include "protocol/client_connection.h"
#include "protocol/server.h"
#include "tests/protocol/fake_service.h"
#include "tests/protocol/peer.h"

namespace ringtide::protocol {
namespace {

constexpr int64_t kQueued = 16 << 10;

// A reader under the test's control: chunks wait until it is told to handle them.
class HeldSink final : public wire::TextSink::Server {
 public:
  struct Seen {
    std::vector<std::string> texts;
    std::vector<kj::Own<kj::PromiseFulfiller<void>>> held;
    bool done = false;
  };
  explicit HeldSink(Seen& seen) : seen_(seen) {}
  kj::Promise<void> chunk(ChunkContext context) override {
    seen_.texts.push_back(to_string(context.getParams().getText()));
    auto pair = kj::newPromiseAndFulfiller<void>();
    seen_.held.push_back(kj::mv(pair.fulfiller));
    return kj::mv(pair.promise);
  }
  kj::Promise<void> done(DoneContext) override {
    seen_.done = true;
    return kj::READY_NOW;
  }

 private:
  Seen& seen_;
};

class StreamTest : public testing::Test {
 protected:
  StreamTest() : server_("127.0.0.1:0", service_, limits()) {}

  static ServerLimits limits() {
    ServerLimits limits;
    limits.max_queued_bytes = kQueued;
    return limits;
  }
  // What the client has sent before is at the server after this.
  static void round_trip(ClientConnection& connection) {
    connection.wait(connection.server().serverRequest().send());
  }
  wire::Session::Client open_raw(ClientConnection& connection, const std::string& name) {
    auto call = connection.server().openRequest();
    call.initSession().setName(name);
    return connection.wait(call.send()).getOpened().getSession();
  }
  capnp::RemotePromise<wire::GenerateOutcome> generate_raw(wire::Session::Client& session,
                                                           HeldSink::Seen& seen) {
    auto call = session.generateRequest();
    call.setSink(kj::heap<HeldSink>(seen));
    return call.send();
  }
  FakeService::State& state(const std::string& name) { return service_.sessions[name]; }
  // The generation that has started in a session.
  std::shared_ptr<FakeService::Generation> started(const std::string& name) {
    service_.until([&]() { return state(name).generation != nullptr; });
    return state(name).generation;
  }
  // Pushes chunks of 1000 bytes; counts what becomes of them.
  void push(FakeService::Generation& generation, int chunks) {
    for (int i = 0; i < chunks; ++i) {
      generation.sink->push({std::string(1000, 'a' + i % 26), {i}}, [this](bool taken) {
        service_.happen([&]() { ++(taken ? taken_ : lost_); });
      });
    }
  }
  void gone(const std::string& name) {
    service_.until([&]() { return state(name).attached == 0; });
  }

  FakeService service_;
  Server server_;
  int taken_ = 0, lost_ = 0;
};

// 1000 bytes of text, one token, and the message around them.
constexpr int kChunksAllowed = kQueued / (1000 + 4 + 128);

TEST_F(StreamTest, WritesWaitForTheServiceToAccept) {
  std::vector<FakeService::Append> withheld;
  service_.on_append = [&](FakeService::State&, FakeService::Append append) {
    service_.happen([&]() { withheld.push_back(std::move(append)); });
  };
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  auto stream = session.appendRequest().send().getStream();
  // Writes go out until the window is full: a bounded number, and the service sees one of them.
  const std::string piece(64 << 10, 'x');
  std::vector<kj::Promise<void>> writes;
  int let_through = 0;
  for (bool ready = true; ready && let_through < 1000; let_through += ready) {
    auto write = stream.writeRequest();
    write.setText(to_data(piece));
    writes.push_back(write.send());
    ready = writes.back().poll(connection.scope());
  }
  EXPECT_LT(let_through, 200);
  service_.until([&]() { return withheld.size() == 1; });
  round_trip(connection);
  EXPECT_EQ(withheld.size(), 1u);

  // Accepting lets the rest through, in order.
  for (int i = 0; i <= let_through; ++i) {
    service_.until([&]() { return withheld.size() == 1; });
    FakeService::Append next;
    service_.happen([&]() {
      next = std::move(withheld.front());
      withheld.clear();
    });
    next.accepted({});
    next.durable({}, (i + 1) * piece.size());
    round_trip(connection);
  }
  connection.wait(kj::mv(writes.back()));
  EXPECT_EQ(connection.wait(stream.endRequest().send()).getOffset(),
            (let_through + 1) * piece.size());
}

TEST_F(StreamTest, EndWaitsForDurable) {
  std::vector<Reply<uint64_t>> durable;
  service_.on_append = [&](FakeService::State&, FakeService::Append append) {
    append.accepted({});
    service_.happen([&]() { durable.push_back(append.durable); });
  };
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  auto stream = session.appendRequest().send().getStream();
  for (const char* text : {"one", "two"}) {
    auto write = stream.writeRequest();
    write.setText(to_data(text));
    connection.wait(write.send());
  }
  auto end = stream.endRequest().send();
  round_trip(connection);
  service_.until([&]() { return durable.size() == 2; });
  durable[0]({}, 3);
  round_trip(connection);
  EXPECT_FALSE(end.poll(connection.scope()));
  durable[1]({Code::Storage, "disk gone", 0}, 0);
  const auto results = connection.wait(kj::mv(end));
  ASSERT_TRUE(results.isError());
  EXPECT_EQ(read(results.getError()).message, "disk gone");
}

TEST_F(StreamTest, ASlowReaderHoldsTheServiceBack) {
  service_.on_generate = [](auto&, auto) {};
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  HeldSink::Seen seen;
  auto call = generate_raw(session, seen);
  round_trip(connection);
  const auto generation = started("a");
  constexpr int kChunks = 100;
  push(*generation, kChunks);
  generation->done({}, {});
  service_.until([&]() { return taken_ == kChunksAllowed; });
  round_trip(connection);
  EXPECT_EQ(taken_, kChunksAllowed);

  // Each chunk handled lets one more through; the result comes after the last.
  for (int handled = 0; handled < kChunks; ++handled) {
    EXPECT_FALSE(call.poll(connection.scope()));
    while (static_cast<int>(seen.held.size()) == handled) {
      round_trip(connection);
    }
    seen.held[handled]->fulfill();
    round_trip(connection);
    const int expected = std::min(kChunks, kChunksAllowed + handled + 1);
    service_.until([&]() { return taken_ >= expected; });
    EXPECT_EQ(taken_, expected);
  }
  EXPECT_TRUE(connection.wait(kj::mv(call)).isResult());
  EXPECT_TRUE(seen.done);
  EXPECT_EQ(seen.texts.size(), static_cast<size_t>(kChunks));
  EXPECT_EQ(seen.texts[27], std::string(1000, 'b'));
  EXPECT_EQ(lost_, 0);
}

TEST_F(StreamTest, AReaderThatNeverReadsCostsABoundedNumberOfBytes) {
  service_.on_generate = [](auto&, auto) {};
  auto connection = std::make_unique<ClientConnection>(server_.address());
  {
    auto session = open_raw(*connection, "a");
    HeldSink::Seen seen;
    auto call = generate_raw(session, seen);
    round_trip(*connection);
    const auto generation = started("a");
    push(*generation, 10'000);  // and from here on the client does not run its loop
    service_.until([&]() { return taken_ == kChunksAllowed; });

    // Others are served, and nothing more is taken meanwhile.
    std::thread([&]() { EXPECT_EQ(Client::connect(server_.address())->list().size(), 1u); }).join();
    EXPECT_EQ(taken_, kChunksAllowed);
  }
  connection.reset();
  service_.until([&]() { return taken_ + lost_ == 10'000; });
  EXPECT_EQ(taken_, kChunksAllowed);
  EXPECT_TRUE(state("a").generation->cancelled);
  gone("a");
}

TEST_F(StreamTest, AChunkLargerThanTheBoundIsSentAlone) {
  service_.on_generate = [](auto&, auto) {};
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  HeldSink::Seen seen;
  auto call = generate_raw(session, seen);
  round_trip(connection);
  const auto generation = started("a");
  const auto count = [&](bool) { service_.happen([&]() { ++taken_; }); };
  generation->sink->push({std::string(2 * kQueued, 'x'), {}}, count);
  generation->sink->push({"y", {}}, count);
  service_.until([&]() { return taken_ == 1; });
  while (seen.held.empty()) round_trip(connection);
  EXPECT_EQ(taken_, 1);
  seen.held[0]->fulfill();
  round_trip(connection);
  service_.until([&]() { return taken_ == 2; });
}

TEST_F(StreamTest, DroppingTheCallCancels) {
  service_.on_generate = [](auto&, auto) {};
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  HeldSink::Seen seen;
  auto call = kj::heap(generate_raw(session, seen));
  round_trip(connection);
  const auto generation = started("a");
  EXPECT_FALSE(generation->cancelled);
  call = nullptr;
  round_trip(connection);
  service_.until([&]() { return generation->cancelled.load(); });
  push(*generation, 1);
  service_.until([&]() { return lost_ == 1; });
  generation->done({}, {});
  connection.wait(session.infoRequest().send());
}

TEST_F(StreamTest, CancelEndsTheGenerationAndItsResultComes) {
  service_.on_generate = [](auto&, auto) {};
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  connection.wait(session.cancelRequest().send());  // nothing to cancel: harmless
  HeldSink::Seen seen;
  auto call = generate_raw(session, seen);
  connection.wait(session.cancelRequest().send());
  const auto generation = started("a");
  EXPECT_TRUE(generation->cancelled);
  GenerateResult result;
  result.reason = FinishReason::Cancelled;
  generation->done({}, result);
  EXPECT_EQ(read(connection.wait(kj::mv(call)).getResult()).reason, FinishReason::Cancelled);
}

TEST_F(StreamTest, AChunkFunctionThatReturnsFalseCancels) {
  service_.on_generate = [&](auto&, auto generation) { push(*generation, 5); };
  std::thread ending([&]() {
    const auto generation = started("a");
    service_.until([&]() { return generation->cancelled.load(); });
    GenerateResult result;
    result.reason = FinishReason::Cancelled;
    generation->done({}, result);
  });
  OpenRequest request;
  request.name = "a";
  const auto session = Client::connect(server_.address())->open(request, nullptr, nullptr);
  int calls = 0;
  const auto result = session->generate({}, [&](const TextChunk&) { return ++calls < 2; });
  EXPECT_EQ(result.reason, FinishReason::Cancelled);
  EXPECT_EQ(calls, 2);
  ending.join();
}

TEST_F(StreamTest, AnExceptionInTheChunkFunctionCancelsAndReachesTheCaller) {
  service_.on_generate = [&](auto&, auto generation) { push(*generation, 5); };
  const auto client = Client::connect(server_.address());
  OpenRequest request;
  request.name = "a";
  const auto session = client->open(request, nullptr, nullptr);
  EXPECT_THROW(session->generate({}, [](const TextChunk&) -> bool { throw std::logic_error("x"); }),
               std::logic_error);
  client->server();
  const auto generation = started("a");
  service_.until([&]() { return generation->cancelled.load(); });
}

TEST_F(StreamTest, ASinkThatFailsCancels) {
  service_.on_generate = [](auto&, auto) {};
  ClientConnection connection(server_.address());
  auto session = open_raw(connection, "a");
  HeldSink::Seen seen;
  auto call = generate_raw(session, seen);
  round_trip(connection);
  const auto generation = started("a");
  push(*generation, 1);
  while (seen.held.empty()) round_trip(connection);
  seen.held[0]->reject(KJ_EXCEPTION(FAILED, "no paper"));
  round_trip(connection);
  service_.until([&]() { return generation->cancelled.load(); });
  GenerateResult result;
  result.reason = FinishReason::Cancelled;
  generation->done({}, result);
  EXPECT_EQ(read(connection.wait(kj::mv(call)).getResult()).reason, FinishReason::Cancelled);
}

TEST_F(StreamTest, AKilledClientIsCancelledAndDetachedAndOthersGoOn) {
  const auto other = Client::connect(server_.address());
  service_.on_generate = [&](auto&, auto generation) {
    generation->sink->push({"tide", {1}}, [](bool) {});
  };
  Peer peer({"generate", server_.address(), "a"});
  ASSERT_EQ(peer.line(), "tide");
  peer.kill();
  const auto generation = started("a");
  service_.until([&]() { return generation->cancelled.load() && state("a").attached == 0; });
  generation->done({}, {});
  EXPECT_EQ(other->list().size(), 1u);
}

TEST_F(StreamTest, AClientKilledWhileItsWriteIsWithheldIsDetached) {
  const auto other = Client::connect(server_.address());
  std::vector<FakeService::Append> withheld;
  service_.on_append = [&](FakeService::State&, FakeService::Append append) {
    service_.happen([&]() { withheld.push_back(std::move(append)); });
  };
  Peer peer({"append", server_.address(), "a"});
  service_.until([&]() { return withheld.size() == 1; });
  peer.kill();
  gone("a");
  withheld[0].accepted({});
  withheld[0].durable({}, 1000);
  EXPECT_EQ(other->list().size(), 1u);
}

}  // namespace
}  // namespace ringtide::protocol
