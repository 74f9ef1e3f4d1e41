// The bootstrap capability: the service as a client sees it. Inside this room only.
#pragma once

#include "protocol/session_rpc.h"

namespace ringtide::protocol {

// Loop thread, one for each connection.
class ServiceServer final : public wire::Ringtide::Server {
 public:
  explicit ServiceServer(Link link) : link_(std::move(link)) {}

  kj::Promise<void> open(OpenContext context) override;
  kj::Promise<void> list(ListContext context) override;
  kj::Promise<void> info(InfoContext context) override;
  kj::Promise<void> remove(RemoveContext context) override;
  kj::Promise<void> tokenize(TokenizeContext context) override;
  kj::Promise<void> server(ServerContext context) override;

 private:
  const Link link_;
};

}  // namespace ringtide::protocol
