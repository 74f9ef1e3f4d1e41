// Whatever comes in on the port costs one connection, and the others do not notice.
#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <random>

#include "protocol/address.h"
#include "protocol/client.h"
#include "protocol/connection.h"
#include "protocol/server.h"
#include "tests/protocol/fake_service.h"

namespace ringtide::protocol {
namespace {

class HostileTest : public testing::Test {
 protected:
  HostileTest() { start({}); }

  void start(const ServerLimits& limits) {
    witness_.reset();
    server_.reset();
    server_ = std::make_unique<Server>("127.0.0.1:0", service_, limits);
    witness_ = Client::connect(server_->address());
  }
  // Sends, says that no more comes if `finish`, and reads until the server closes.
  void throw_at(const std::string& bytes, bool finish) {
    const Socket socket = connect_to(server_->address(), 10);
    fcntl(socket.fd(), F_SETFL, 0);  // blocking
    ::send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (finish) ::shutdown(socket.fd(), SHUT_WR);
    char answer[4096];
    while (::recv(socket.fd(), answer, sizeof answer, 0) > 0) {
    }
  }
  void expect_served() { EXPECT_EQ(witness_->server().version, "1.2.3"); }
  // Until the server has let go of all connections but `left`.
  void until_connections(int left) {
    while (server_->connections() > left) witness_->server();
  }

  FakeService service_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> witness_;
};

std::string words(std::initializer_list<uint32_t> values) {
  std::string bytes;
  for (const uint32_t value : values) bytes.append(reinterpret_cast<const char*>(&value), 4);
  return bytes;
}

std::string framed(capnp::MessageBuilder& message) {
  const auto flat = capnp::messageToFlatArray(message);
  const auto bytes = flat.asBytes();
  return {reinterpret_cast<const char*>(bytes.begin()), bytes.size()};
}

std::string bootstrap_message() {
  capnp::MallocMessageBuilder message;
  message.initRoot<capnp::rpc::Message>().initBootstrap().setQuestionId(0);
  return framed(message);
}

TEST_F(HostileTest, OtherProtocolsAndGarbage) {
  throw_at("GET / HTTP/1.1\r\nHost: tide\r\n\r\n", false);
  throw_at(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(200, 'h'),
           true);
  throw_at(std::string(1 << 16, '\0'), true);
  throw_at(std::string(1 << 16, '\xff'), true);
  throw_at("SSH-2.0-OpenSSH_9.2\r\n", true);
  expect_served();
  until_connections(1);
}

TEST_F(HostileTest, HeadersThatPromiseTooMuch) {
  throw_at(words({0, 100 << 17}), false);            // one segment of 100 MiB
  throw_at(words({0, 0xffffffff}), false);           // 4 Gi words
  throw_at(words({600, 1}), false);                  // more segments than a message may have
  throw_at(words({0xffffffff, 0xffffffff}), false);  // a segment count that wraps to none
  throw_at(words({0xffffffff, 0}), false);
  expect_served();
  until_connections(1);
}

TEST_F(HostileTest, TruncatedMessages) {
  const std::string whole = bootstrap_message();
  for (size_t size = 0; size < whole.size(); ++size) throw_at(whole.substr(0, size), true);
  throw_at(whole, true);
  expect_served();
  until_connections(1);
}

TEST_F(HostileTest, RandomBytesAndDamagedMessages) {
  std::mt19937 random(20);
  const std::string whole = bootstrap_message();
  for (int i = 0; i < 200; ++i) {
    std::string bytes = i % 2 == 0 ? whole + whole : std::string(random() % 300, '\0');
    const int damage = i % 2 == 0 ? 1 + i % 5 : static_cast<int>(bytes.size());
    for (int k = 0; k < damage; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    throw_at(bytes, true);
  }
  expect_served();
  until_connections(1);
}

// With results sent elsewhere, a finish makes this version of the RPC library use freed memory.
TEST_F(HostileTest, PartsOfTheRpcProtocolThatTheServiceDoesNotUse) {
  const auto message = [](const std::function<void(capnp::rpc::Message::Builder)>& fill) {
    capnp::MallocMessageBuilder builder;
    fill(builder.initRoot<capnp::rpc::Message>());
    return framed(builder);
  };
  const std::string kept = message([](auto m) {
    auto call = m.initCall();
    call.setQuestionId(1);
    call.initTarget().initPromisedAnswer().setQuestionId(0);
    call.setInterfaceId(capnp::typeId<wire::Ringtide>());
    call.setMethodId(1);
    call.initParams();
    call.getSendResultsTo().setYourself();
  });
  const std::string finish = message([](auto m) { m.initFinish().setQuestionId(1); });
  throw_at(bootstrap_message() + kept + finish, false);
  throw_at(message([](auto m) { m.initProvide(); }), false);
  throw_at(message([](auto m) { m.initAccept(); }), false);
  throw_at(message([](auto m) { m.initJoin(); }), false);
  throw_at(message([](auto m) { m.initDisembargo(); }), false);
  throw_at(message([](auto m) { m.initReturn().setTakeFromOtherQuestion(0); }), false);
  expect_served();
  until_connections(1);
}

TEST_F(HostileTest, AMessageOverTheLimitEndsItsConnectionOnly) {
  ServerLimits limits;
  limits.max_message_bytes = 1 << 20;
  start(limits);
  auto large = Client::connect(server_->address());
  EXPECT_EQ(large->tokenize(std::string(10'000, 'x')).size(), 10'000u);
  OpenRequest request;
  request.name = "a";
  request.system = std::string(1 << 20, 'x');
  EXPECT_THROW(large->open(request, nullptr, nullptr), ClientError);
  EXPECT_THROW(large->server(), ClientError);
  expect_served();
  large = Client::connect(server_->address());
  EXPECT_EQ(large->server().version, "1.2.3");
}

TEST_F(HostileTest, ASilentConnectionIsClosedAndAGreetedOneIsNot) {
  ServerLimits limits;
  limits.idle_handshake_seconds = 1;
  start(limits);
  throw_at("", false);
  throw_at(bootstrap_message().substr(0, 12), false);
  expect_served();
}

TEST_F(HostileTest, OneConnectionTooManyIsToldAndOthersAreNotHurt) {
  ServerLimits limits;
  limits.max_connections = 2;
  start(limits);
  auto second = Client::connect(server_->address());
  try {
    Client::connect(server_->address());
    FAIL() << "connected";
  } catch (const ClientError& e) {
    EXPECT_NE(std::string(e.what()).find("limit of 2 connections"), std::string::npos) << e.what();
  }
  expect_served();
  EXPECT_EQ(second->server().version, "1.2.3");
  EXPECT_EQ(server_->connections(), 2);
  second.reset();
  until_connections(1);
  EXPECT_EQ(Client::connect(server_->address())->server().version, "1.2.3");
}

// Over a pipe in memory, where a message is written when the other end reads it.
TEST(FloodTest, AClientThatAsksAndNeverReadsIsNotReadFrom) {
  auto io = kj::setupAsyncIo();
  FakeService service;
  int lists = 0;
  service.on_list = [&](Reply<std::vector<SessionInfo>> reply) {
    ++lists;
    reply({}, std::vector<SessionInfo>(10));
  };
  auto post = std::make_shared<Post>();
  auto pipe = kj::newTwoWayPipe();
  Connection connection(kj::mv(pipe.ends[0]), service, post, {});
  constexpr int kCalls = 1000;
  std::string flood = bootstrap_message();
  for (int i = 1; i <= kCalls; ++i) {
    capnp::MallocMessageBuilder message;
    auto call = message.initRoot<capnp::rpc::Message>().initCall();
    call.setQuestionId(i);
    call.initTarget().initPromisedAnswer().setQuestionId(0);
    call.setInterfaceId(capnp::typeId<wire::Ringtide>());
    call.setMethodId(1);
    call.initParams();
    flood += framed(message);
  }
  auto sent = pipe.ends[1]->write(flood.data(), flood.size());
  EXPECT_FALSE(sent.poll(io.waitScope));
  EXPECT_LT(lists, 100);

  // Reading lets the rest through.
  auto drained = pipe.ends[1]->readAllBytes().ignoreResult().eagerlyEvaluate(nullptr);
  sent.wait(io.waitScope);
  drained.poll(io.waitScope);
  EXPECT_EQ(lists, kCalls);
}

}  // namespace
}  // namespace ringtide::protocol
