// The messages of one connection, on their way to and from the RPC system. Inside this room only.
//
// Two things are decided here. When the next message is read: the throttle says. And which messages
// are let in: those that a client of this service can have reason to send. The rest of the RPC
// protocol (results sent elsewhere, hand-over to third parties, joins) is not used by this service,
// and 0.9.2 of the library does not survive all of what a hostile client can do with it.
#pragma once

#include <capnp/serialize-async.h>

#include <memory>

#include "protocol/throttle.h"

namespace ringtide::protocol {

// Loop thread. A message that is not let in ends the connection, with a reason for the client.
class Gatekeeper final : public capnp::MessageStream {
 public:
  // `stream` outlives this.
  Gatekeeper(kj::AsyncIoStream& stream, std::shared_ptr<Throttle> throttle)
      : messages_(stream), throttle_(std::move(throttle)) {}

  kj::Promise<kj::Maybe<capnp::MessageReaderAndFds>> tryReadMessage(
      kj::ArrayPtr<kj::AutoCloseFd> fds, capnp::ReaderOptions options,
      kj::ArrayPtr<capnp::word> scratch) override;
  kj::Promise<void> writeMessage(
      kj::ArrayPtr<const int> fds,
      kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) override;
  kj::Promise<void> writeMessages(
      kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) override;
  kj::Maybe<int> getSendBufferSize() override { return messages_.getSendBufferSize(); }
  kj::Promise<void> end() override { return messages_.end(); }

 private:
  capnp::AsyncIoMessageStream messages_;
  const std::shared_ptr<Throttle> throttle_;
};

}  // namespace ringtide::protocol
