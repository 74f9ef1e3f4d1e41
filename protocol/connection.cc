#include "protocol/connection.h"

#include <capnp/rpc.capnp.h>
#include <capnp/serialize-async.h>

#include <utility>

#include "protocol/service_rpc.h"

namespace ringtide::protocol {
namespace {

capnp::ReaderOptions reader_options(const ServerLimits& limits) {
  capnp::ReaderOptions options;
  // Also the largest message.
  options.traversalLimitInWords = limits.max_message_bytes / sizeof(capnp::word);
  options.nestingLimit = 16;
  return options;
}

}  // namespace

Connection::Connection(kj::Own<kj::AsyncIoStream> stream, Service& service,
                       std::shared_ptr<Post> post, const ServerLimits& limits)
    : link_{service, std::move(post), std::make_shared<Throttle>(), limits.max_queued_bytes,
            limits.max_message_bytes},
      handshake_(limits.idle_handshake_seconds * kj::SECONDS),
      stream_(kj::mv(stream)),
      messages_(*stream_, link_.throttle),
      network_(messages_, capnp::rpc::twoparty::Side::SERVER, reader_options(limits)),
      rpc_(network_, static_cast<capnp::BootstrapFactory<VatId>&>(*this)) {
  // Of the calls in flight: room for the largest message and a stream's window beside it.
  rpc_.setFlowLimit(2 * limits.max_message_bytes / sizeof(capnp::word));
}

kj::Promise<void> Connection::closed(kj::Timer& timer) {
  auto silent = timer.afterDelay(handshake_).then([this]() -> kj::Promise<void> {
    if (greeted_) return kj::NEVER_DONE;
    return kj::READY_NOW;
  });
  // The flow limit or the throttle may have stopped the reading that would notice the end.
  return network_.onDisconnect()
      .exclusiveJoin(stream_->whenWriteDisconnected())
      .exclusiveJoin(kj::mv(silent));
}

capnp::Capability::Client Connection::createFor(VatId::Reader) {
  greeted_ = true;
  return kj::heap<ServiceServer>(link_);
}

kj::Promise<void> refuse(kj::Own<kj::AsyncIoStream> stream, kj::Timer& timer,
                         kj::StringPtr reason) {
  constexpr size_t kRead = 16 << 10;
  auto message = kj::heap<capnp::MallocMessageBuilder>();
  auto abort = message->initRoot<capnp::rpc::Message>().initAbort();
  abort.setReason(reason);
  abort.setType(capnp::rpc::Exception::Type::OVERLOADED);
  auto buffer = kj::heapArray<kj::byte>(kRead);
  // Reading what the client says until it closes keeps the kernel from throwing the reason away.
  return capnp::writeMessage(*stream, *message)
      .then([&stream = *stream, into = buffer.asPtr()]() mutable {
        stream.shutdownWrite();
        return stream.tryRead(into.begin(), into.size(), into.size()).ignoreResult();
      })
      .exclusiveJoin(timer.afterDelay(2 * kj::SECONDS))
      .attach(kj::mv(stream), kj::mv(message), kj::mv(buffer));
}

}  // namespace ringtide::protocol
