#include "deploy/connection.h"

#include <fmt/core.h>
#include <stdlib.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "deploy/failure.h"
#include "deploy/format.h"
#include "deploy/interrupt.h"
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

// That bring a later command to the same sessions, from any folder.
std::string flags_of(const ServerOptions& options) {
  std::string flags;
  const auto add = [&](const char* flag, const std::string& value) {
    flags += fmt::format("{}{} {}", flags.empty() ? "" : " ", flag, quote_for_shell(value));
  };
  if (options.store != default_store_path()) add("--store", fs::weakly_canonical(options.store).string());
  if (!options.model.empty()) add("--model", fs::weakly_canonical(options.model).string());
  if (options.kv_type != ServerOptions().kv_type) add("--kv-type", options.kv_type);
  if (options.activations != ServerOptions().activations) {
    add("--activations", options.activations);
  }
  return flags;
}

// Settings of a server in this process, where there is none. What the environment sets for every
// command is no mistake.
void tell_unused(const ServerOptions& options) {
  const auto tell = [](const char* flag, bool given) {
    if (!given || std::getenv(environment_name(flag).c_str()) != nullptr) return;
    fmt::print(stderr, "ringtide: {} is not used: with --connect the server has its own\n", flag);
  };
  tell("--store", !options.store.empty() && options.store != default_store_path());
  tell("--model", !options.model.empty());
  tell("--threads", options.threads != 0);
  tell("--ram-budget", options.ram_budget != 0);
  tell("--device", options.device != ServerOptions().device);
  tell("--gpu-memory", options.gpu_memory != 0);
  tell("--kv-type", options.kv_type != ServerOptions().kv_type);
  tell("--activations", options.activations != ServerOptions().activations);
}

}  // namespace

Connection connect(const TargetOptions& target, Progress& progress) {
  Connection connection;
  if (!target.connect.empty()) {
    tell_unused(target.server);
    connection.client = reach(target.connect, " ('ringtide serve' starts one)");
    connection.flags = "--connect " + quote_for_shell(target.connect);
    return connection;
  }
  progress.start("loading", "", 0);
  connection.server = std::make_unique<LocalServer>(target.server, protocol::Policy{});
  {
    const InterruptScope interrupt;  // which waits until the folder is gone
    {
      const SocketFolder folder;
      connection.server->listen(folder.address());
      connection.client = reach(folder.address(), "");
    }
    if (interrupt.interrupted()) throw Failure(Exit::Interrupted, "interrupted");
  }
  progress.stop();
  connection.flags = flags_of(target.server);
  return connection;
}

}  // namespace ringtide::deploy
