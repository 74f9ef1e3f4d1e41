// A Service in memory that does what its test says: the joint between protocol and actors.
//
// Sessions are by name, hold the text appended, and answer like the real ones. A test overrides
// what it wants otherwise through the hooks, and waits for what happened with until().
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "protocol/service.h"

namespace ringtide::protocol {

class FakeService : public Service {
 public:
  struct Append {
    std::string text;
    std::optional<uint64_t> offset;
    std::function<void(Outcome)> accepted;
    Reply<uint64_t> durable;
  };
  struct Generation {
    GenerateParams params;
    std::shared_ptr<TextSink> sink;
    Reply<GenerateResult> done;
    std::atomic<bool> cancelled{false};
  };
  struct State {
    SessionInfo info;
    std::string text;
    int attached = 0;
    std::shared_ptr<Generation> generation;  // the last one
  };

  // Hooks; set before the call that meets them. Called on the server's thread.
  std::function<Outcome(const OpenRequest&)> on_open;
  std::function<void(State&, Append)> on_append;  // else: log it, accept, durable
  std::function<void(State&, std::shared_ptr<Generation>)> on_generate;  // else: echo in words
  Outcome refuse;  // if not ok, what every other method answers
  std::function<void(Reply<std::vector<SessionInfo>>)> on_list;

  void open(const OpenRequest& request,
            std::function<void(Outcome, std::shared_ptr<SessionHandle>, SessionInfo, bool)> reply)
      override;
  void list(Reply<std::vector<SessionInfo>> reply) override;
  void info(const std::string& name, uint64_t id, Reply<SessionInfo> reply) override;
  void remove(const std::string& name, uint64_t id, std::function<void(Outcome)> reply) override;
  void tokenize(std::string text,
                Reply<std::vector<std::pair<int32_t, std::string>>> reply) override;
  void server(Reply<ServerInfo> reply) override;

  // Blocks until `condition` holds; it is evaluated under the lock whenever something happened.
  void until(const std::function<bool()>& condition);
  // Changes what a condition reads.
  void happen(const std::function<void()>& change);
  // Does what the real log does with an append.
  static void log(State& state, Append append);
  // Answers a generation with the session's text, a word at a time.
  static void echo(const State& state, Generation& generation);

  std::map<std::string, State> sessions;
  OpenRequest last_open;

 private:
  friend class FakeSession;
  State* find(const std::string& name, uint64_t id);

  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_id_ = 1;
};

}  // namespace ringtide::protocol
