// The messages of one connection, on their way to and from the RPC system. Inside this room only.
//
// Three things are decided here. When the next message is read: the throttle says. Whether its
// header is one that the library reads safely. And which messages are let in: those that a client
// of this service can have reason to send. The rest of the RPC protocol (results sent elsewhere,
// hand-over to third parties, joins) is not used by this service, and 0.9.2 of the library does not
// survive all of what a hostile client can do with it.
#pragma once

#include <capnp/serialize-async.h>

#include <memory>

#include "protocol/throttle.h"

namespace ringtide::protocol {

// A connection's bytes, refusing a header that counts 2^32 segments: the library takes that for
// none and writes past the array it makes of them.
class HeaderGuard final : public kj::AsyncInputStream {
 public:
  explicit HeaderGuard(kj::AsyncInputStream& stream) : stream_(stream) {}
  // The next read is that of a header.
  void begin_message() { at_header_ = true; }
  kj::Promise<size_t> tryRead(void* buffer, size_t min, size_t max) override;

 private:
  kj::AsyncInputStream& stream_;
  bool at_header_ = false;
};

// Loop thread. A message that is not let in ends the connection, with a reason for the client.
class Gatekeeper final : public capnp::MessageStream {
 public:
  // `stream` outlives this.
  Gatekeeper(kj::AsyncIoStream& stream, std::shared_ptr<Throttle> throttle)
      : incoming_(stream), outgoing_(stream), throttle_(std::move(throttle)) {}

  kj::Promise<kj::Maybe<capnp::MessageReaderAndFds>> tryReadMessage(
      kj::ArrayPtr<kj::AutoCloseFd> fds, capnp::ReaderOptions options,
      kj::ArrayPtr<capnp::word> scratch) override;
  kj::Promise<void> writeMessage(
      kj::ArrayPtr<const int> fds,
      kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) override;
  kj::Promise<void> writeMessages(
      kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) override;
  kj::Maybe<int> getSendBufferSize() override { return outgoing_.getSendBufferSize(); }
  kj::Promise<void> end() override { return outgoing_.end(); }

 private:
  HeaderGuard incoming_;
  capnp::AsyncIoMessageStream outgoing_;
  const std::shared_ptr<Throttle> throttle_;
};

}  // namespace ringtide::protocol
