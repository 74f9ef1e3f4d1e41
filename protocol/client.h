// The C++ client: sessions on a Ringtide server, blocking calls on the caller's thread.
//
// A Client belongs to one thread. Calls that stream give progress through callbacks on that thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/service.h"

namespace ringtide::protocol {

// The server's outcome was not Ok, or (code Internal) the connection failed.
struct ClientError : std::runtime_error {
  ClientError(Outcome outcome, bool lost = false)
      : std::runtime_error(outcome.message), outcome(std::move(outcome)), lost(lost) {}
  Outcome outcome;
  bool lost;  // there is no connection any more: connect again, open the session by name
};

class ClientSession {
 public:
  virtual ~ClientSession() = default;
  // Streams `next` (an empty string ends it) into the session, at `offset` if given. Returns the
  // offset after the last byte once all of it is durable. `progress(acknowledged bytes)` as it
  // goes.
  virtual uint64_t append(const std::function<std::string()>& next, std::optional<uint64_t> offset,
                          const std::function<void(uint64_t)>& progress) = 0;
  // Streams the answer; `chunk` returning false cancels it. While nothing comes, `quiet` is called
  // a few times a second; false from it cancels too. Both may use the client.
  virtual GenerateResult generate(const GenerateParams& params,
                                  const std::function<bool(const TextChunk&)>& chunk,
                                  const std::function<bool()>& quiet = nullptr) = 0;
  virtual SessionInfo info() = 0;
  // Waits until everything appended that fills execution blocks has been run; `progress(info)` a
  // few times a second.
  virtual void wait_ingested(const std::function<void(const SessionInfo&)>& progress) = 0;
};

class Client {
 public:
  // "host:port" or "unix:/path". Throws ClientError that names the address.
  static std::unique_ptr<Client> connect(const std::string& address);
  virtual ~Client() = default;
  virtual std::unique_ptr<ClientSession> open(const OpenRequest& request, SessionInfo* info,
                                              bool* created) = 0;
  virtual std::vector<SessionInfo> list() = 0;
  virtual SessionInfo info(const std::string& name, uint64_t id) = 0;
  virtual void remove(const std::string& name, uint64_t id) = 0;
  virtual std::vector<std::pair<int32_t, std::string>> tokenize(std::string_view text) = 0;
  virtual ServerInfo server() = 0;
};

}  // namespace ringtide::protocol
