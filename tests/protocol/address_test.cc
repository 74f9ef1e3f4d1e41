#include "protocol/address.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "protocol/client.h"
#include "protocol/server.h"
#include "tests/protocol/fake_service.h"

namespace ringtide::protocol {
namespace {

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "";
}

std::string socket_path(const std::string& name) {
  return testing::TempDir() + "ringtide-" + name + "-" + std::to_string(getpid());
}

TEST(AddressTest, PortZeroBecomesAFreeOne) {
  const Listener listener = listen_on("127.0.0.1:0");
  EXPECT_EQ(listener.address.rfind("127.0.0.1:", 0), 0u);
  EXPECT_NE(listener.address, "127.0.0.1:0");
  EXPECT_GE(connect_to(listener.address, 10).fd(), 0);
}

TEST(AddressTest, APortInUseIsNamed) {
  const Listener first = listen_on("127.0.0.1:0");
  const std::string error = error_of([&]() { listen_on(first.address); });
  EXPECT_NE(error.find(first.address), std::string::npos) << error;
  EXPECT_NE(error.find("in use"), std::string::npos) << error;
  FakeService service;
  EXPECT_EQ(error_of([&]() { Server(first.address, service, {}); }), error);
}

TEST(AddressTest, TellsWhetherItCouldListenAndLeavesNothing) {
  EXPECT_EQ(cannot_listen("127.0.0.1:0"), "");
  const Listener taken = listen_on("127.0.0.1:0");
  EXPECT_NE(cannot_listen(taken.address).find("in use"), std::string::npos);
  const std::string path = socket_path("listen");
  EXPECT_EQ(cannot_listen("unix:" + path), "");
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  { const Listener gone = listen_on("unix:" + path); }
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  EXPECT_EQ(cannot_listen("unix:" + path), "") << "the socket of a dead server is no hindrance";
}

TEST(AddressTest, MalformedAddressesSayWhatIsWrong) {
  const auto listening = [](const std::string& address) {
    return error_of([&]() { listen_on(address); });
  };
  EXPECT_NE(listening("localhost").find("host:port"), std::string::npos);
  EXPECT_NE(listening("localhost:http").find("port must be a number"), std::string::npos);
  EXPECT_NE(listening("localhost:70000").find("port must be a number"), std::string::npos);
  EXPECT_NE(listening(":7000").find("host is missing"), std::string::npos);
  EXPECT_NE(listening("::1:7000").find("[address]:port"), std::string::npos);
  EXPECT_NE(listening("unix:").find("path is missing"), std::string::npos);
  EXPECT_NE(listening("unix:/" + std::string(200, 'x')).find("longer than"), std::string::npos);
  EXPECT_NE(listening("unix:/nowhere/at/all").find("folder does not exist"), std::string::npos);
  EXPECT_NE(listening("192.0.2.1:0").find("no interface"), std::string::npos);
}

TEST(AddressTest, ConnectingToNobodyAsksWhetherTheServerRuns) {
  std::string address;
  { address = listen_on("127.0.0.1:0").address; }
  const std::string error = error_of([&]() { Client::connect(address); });
  EXPECT_NE(error.find(address), std::string::npos) << error;
  EXPECT_NE(error.find("is the server running"), std::string::npos) << error;
  EXPECT_NE(
      error_of([&]() { Client::connect("unix:" + socket_path("none")); }).find("no such socket"),
      std::string::npos);
}

TEST(AddressTest, TheSocketFileOfADeadServerIsReplaced) {
  const std::string path = socket_path("stale");
  { const Listener dead = listen_on("unix:" + path); }
  struct stat status {};
  ASSERT_EQ(lstat(path.c_str(), &status), 0);
  FakeService service;
  {
    Server server("unix:" + path, service, {});
    EXPECT_EQ(Client::connect(server.address())->server().version, "1.2.3");
    const std::string error = error_of([&]() { Server("unix:" + path, service, {}); });
    EXPECT_NE(error.find("in use"), std::string::npos) << error;
    EXPECT_EQ(Client::connect(server.address())->server().version, "1.2.3");
  }
  EXPECT_NE(lstat(path.c_str(), &status), 0);
}

TEST(AddressTest, AFileThatIsNoSocketIsLeftAlone) {
  const std::string path = socket_path("file");
  std::ofstream(path) << "precious";
  EXPECT_NE(error_of([&]() { listen_on("unix:" + path); }).find("not a socket"), std::string::npos);
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, "precious");
  unlink(path.c_str());
}

}  // namespace
}  // namespace ringtide::protocol
