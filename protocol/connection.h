// One client's connection on the server: its limits, its RPC system, its end. Inside this room
// only.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/timer.h>

#include "protocol/gatekeeper.h"
#include "protocol/server.h"
#include "protocol/session_rpc.h"

namespace ringtide::protocol {

// Loop thread. Destroying it drops every capability the client held, and with them its sessions.
class Connection final : private capnp::BootstrapFactory<capnp::rpc::twoparty::VatId> {
 public:
  Connection(kj::Own<kj::AsyncIoStream> stream, Service& service, std::shared_ptr<Post> post,
             const ServerLimits& limits);

  // Resolves when the client is gone, or has not asked for the service within the handshake time.
  kj::Promise<void> closed(kj::Timer& timer);

 private:
  using VatId = capnp::rpc::twoparty::VatId;
  capnp::Capability::Client createFor(VatId::Reader client) override;

  const Link link_;
  const kj::Duration handshake_;
  bool greeted_ = false;  // a complete bootstrap message has come
  kj::Own<kj::AsyncIoStream> stream_;
  Gatekeeper messages_;
  capnp::TwoPartyVatNetwork network_;
  capnp::RpcSystem<VatId> rpc_;
};

// Tells a client in the protocol's own terms why it is not served, then closes. Bounded in time and
// in what it reads.
kj::Promise<void> refuse(kj::Own<kj::AsyncIoStream> stream, kj::Timer& timer, kj::StringPtr reason);

}  // namespace ringtide::protocol
