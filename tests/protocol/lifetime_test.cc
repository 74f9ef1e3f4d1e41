// Servers and clients that end while others still count on them.
#include <gtest/gtest.h>

#include <thread>

#include "protocol/client.h"
#include "protocol/server.h"
#include "tests/protocol/fake_service.h"
#include "tests/protocol/peer.h"

namespace ringtide::protocol {
namespace {

std::unique_ptr<ClientSession> open(Client& client, const std::string& name) {
  OpenRequest request;
  request.name = name;
  return client.open(request, nullptr, nullptr);
}

void expect_lost(const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const ClientError& e) {
    EXPECT_EQ(e.outcome.code, Code::Internal);
    EXPECT_NE(std::string(e.what()).find("connect again"), std::string::npos) << e.what();
  }
}

TEST(LifetimeTest, ManyClientsAtOnce) {
  FakeService service;
  Server server("127.0.0.1:0", service, {});
  std::vector<std::thread> clients;
  for (int i = 0; i < 24; ++i) {
    clients.emplace_back([&, i]() {
      const auto client = Client::connect(server.address());
      const auto session = open(*client, "session " + std::to_string(i));
      int left = 20;
      const auto next = [&]() { return left-- > 0 ? "word" + std::to_string(i) + " " : ""; };
      session->append(next, 0, nullptr);
      std::string text;
      session->generate({}, [&](const TextChunk& chunk) {
        text += chunk.text;
        return true;
      });
      std::string expected;
      for (int k = 0; k < 20; ++k) expected += "word" + std::to_string(i) + " ";
      EXPECT_EQ(text, expected);
    });
  }
  for (auto& client : clients) client.join();
  service.until([&]() {
    for (const auto& [name, state] : service.sessions) {
      if (state.attached != 0) return false;
    }
    return true;
  });
  EXPECT_EQ(service.sessions.size(), 24u);
}

TEST(LifetimeTest, AServerEndsWithCallsInFlightAndLateAnswersAreIgnored) {
  FakeService service;
  Reply<std::vector<SessionInfo>> late_list;
  std::vector<FakeService::Append> late_appends;
  int lost = 0;
  service.on_list = [&](auto reply) { service.happen([&]() { late_list = reply; }); };
  service.on_append = [&](auto&, auto append) {
    service.happen([&]() { late_appends.push_back(std::move(append)); });
  };
  service.on_generate = [](auto&, auto) {};
  auto server = std::make_unique<Server>("127.0.0.1:0", service, ServerLimits{});
  const std::string address = server->address();

  std::thread lister([&]() {
    const auto client = Client::connect(address);
    expect_lost([&]() { client->list(); });
  });
  std::thread appender([&]() {
    const auto client = Client::connect(address);
    const auto session = open(*client, "appends");
    expect_lost([&]() { session->append([]() { return "x"; }, std::nullopt, nullptr); });
  });
  std::thread generator([&]() {
    const auto client = Client::connect(address);
    const auto session = open(*client, "generates");
    expect_lost([&]() { session->generate({}, [](const TextChunk&) { return true; }); });
  });
  service.until([&]() {
    return late_list && !late_appends.empty() && service.sessions["generates"].generation;
  });
  server.reset();
  lister.join();
  appender.join();
  generator.join();

  const auto generation = service.sessions["generates"].generation;
  EXPECT_TRUE(generation->cancelled);
  EXPECT_EQ(service.sessions["generates"].attached, 0);
  EXPECT_EQ(service.sessions["appends"].attached, 0);
  late_list({}, {});
  late_appends[0].accepted({});
  late_appends[0].durable({}, 1);
  generation->sink->push({"late", {}}, [&](bool taken) { lost += !taken; });
  generation->done({}, {});
  EXPECT_EQ(lost, 1);
}

TEST(LifetimeTest, AnswersOfAClientThatLeftAreIgnored) {
  FakeService service;
  Reply<std::vector<SessionInfo>> late;
  service.on_list = [&](auto reply) { service.happen([&]() { late = reply; }); };
  Server server("127.0.0.1:0", service, {});
  Peer peer({"list", server.address(), "a"});
  service.until([&]() { return late != nullptr; });
  peer.kill();
  service.until([&]() { return service.sessions["a"].attached == 0; });
  late({}, {});
  EXPECT_EQ(Client::connect(server.address())->server().version, "1.2.3");
}

TEST(LifetimeTest, AClientLearnsThatItsServerDied) {
  Peer peer({"serve", "127.0.0.1:0"});
  const std::string address = peer.line();
  const auto client = Client::connect(address);
  const auto session = open(*client, "endless");
  GenerateParams params;
  params.max_tokens = int64_t{1} << 60;
  int chunks = 0;
  expect_lost([&]() {
    session->generate(params, [&](const TextChunk&) {
      if (++chunks == 10) peer.kill();
      return true;
    });
  });
  EXPECT_GE(chunks, 10);
  expect_lost([&]() { session->info(); });
  expect_lost([&]() { session->append([]() { return "x"; }, std::nullopt, nullptr); });
  EXPECT_THROW(Client::connect(address), ClientError);
}

TEST(LifetimeTest, ASessionOutlivesItsClientObject) {
  FakeService service;
  Server server("127.0.0.1:0", service, {});
  auto client = Client::connect(server.address());
  const auto session = open(*client, "a");
  client.reset();
  EXPECT_EQ(session->info().name, "a");
}

TEST(LifetimeTest, AServiceThatThrowsFailsThatCallOnly) {
  FakeService service;
  service.on_list = [](auto) { throw std::runtime_error("a fault"); };
  Server server("127.0.0.1:0", service, {});
  const auto client = Client::connect(server.address());
  try {
    client->list();
    FAIL() << "no error";
  } catch (const ClientError& e) {
    EXPECT_NE(std::string(e.what()).find("a fault"), std::string::npos) << e.what();
  }
  service.on_list = [](auto) {};  // drops the reply
  EXPECT_THROW(client->list(), ClientError);
  EXPECT_EQ(client->server().version, "1.2.3");
}

}  // namespace
}  // namespace ringtide::protocol
