// The session capability: a client's hold on one session. Inside this room only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/generation.h"
#include "protocol/loop.h"
#include "protocol/throttle.h"
#include "protocol/wire.h"

namespace ringtide::protocol {

// What every capability of one connection shares.
struct Link {
  Service& service;
  std::shared_ptr<Post> post;
  std::shared_ptr<Throttle> throttle;
  int64_t max_queued_bytes;   // of one generation
  int64_t max_message_bytes;  // of an answer too
};

// Loop thread. Lives as long as the client holds it, or a stream or generation made from it.
class SessionServer final : public wire::Session::Server {
 public:
  SessionServer(std::shared_ptr<SessionHandle> session, Link link);

  kj::Promise<void> append(AppendContext context) override;
  kj::Promise<void> generate(GenerateContext context) override;
  kj::Promise<void> cancel(CancelContext context) override;
  kj::Promise<void> info(InfoContext context) override;

 private:
  const std::shared_ptr<SessionHandle> session_;
  const Link link_;
  std::vector<std::weak_ptr<Generation>> generations_;  // under way; the service allows how many
};

}  // namespace ringtide::protocol
