#include "deploy/connection.h"

#include <fmt/core.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "deploy/failure.h"
#include "deploy/model_cache.h"

namespace ringtide::deploy {

namespace fs = std::filesystem;

namespace {

// A folder that only this user can enter, for the socket between the two halves of the process. It
// is gone once they are connected.
class SocketFolder {
 public:
  SocketFolder() {
    path_ = (fs::temp_directory_path() / "ringtide-XXXXXX").string();
    if (mkdtemp(path_.data()) == nullptr) {
      throw Failure(Exit::Failed,
                    fmt::format("cannot make a temporary folder {}: {}", path_, strerror(errno)));
    }
  }
  ~SocketFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string address() const { return "unix:" + path_ + "/socket"; }

 private:
  std::string path_;
};

std::unique_ptr<protocol::Client> reach(const std::string& address, const char* advice) {
  try {
    return protocol::Client::connect(address);
  } catch (const std::exception& e) {
    throw Failure(Exit::Unreachable, fmt::format("{}{}", e.what(), advice));
  }
}

}  // namespace

Connection connect(const TargetOptions& target, Progress& progress) {
  Connection connection;
  if (!target.connect.empty()) {
    connection.client =
        reach(target.connect, "; is 'ringtide serve' running there? 'ringtide serve --help'");
    connection.flags = "--connect " + target.connect;
    return connection;
  }
  progress.start("loading", "", 0);
  SocketFolder folder;
  connection.server =
      std::make_unique<LocalServer>(target.server, protocol::Policy{}, folder.address());
  connection.client = reach(folder.address(), "");
  progress.stop();
  if (target.server.store != default_store_path()) {
    connection.flags = "--store " + target.server.store;
  }
  if (!target.server.model.empty()) connection.flags += " --model " + target.server.model;
  return connection;
}

}  // namespace ringtide::deploy
