#include "protocol/gatekeeper.h"

#include <capnp/rpc.capnp.h>
#include <kj/debug.h>

#include <cstdint>
#include <cstring>

namespace ringtide::protocol {
namespace {

using capnp::rpc::Message;
using capnp::rpc::Return;

bool is_plain(Message::Reader message) {
  switch (message.which()) {
    case Message::BOOTSTRAP:
    case Message::FINISH:
    case Message::RELEASE:
    case Message::RESOLVE:
    case Message::UNIMPLEMENTED:
    case Message::ABORT:
      return true;
    case Message::CALL:
      return message.getCall().getSendResultsTo().isCaller();
    case Message::RETURN: {
      const auto which = message.getReturn().which();
      return which == Return::RESULTS || which == Return::EXCEPTION || which == Return::CANCELED;
    }
    default:
      return false;
  }
}

}  // namespace

kj::Promise<size_t> HeaderGuard::tryRead(void* buffer, size_t min, size_t max) {
  auto reading = stream_.tryRead(buffer, min, max);
  if (!at_header_) return reading;
  at_header_ = false;
  return reading.then([buffer](size_t size) {
    uint32_t last_segment = 0;
    if (size >= sizeof last_segment) std::memcpy(&last_segment, buffer, sizeof last_segment);
    KJ_REQUIRE(last_segment != UINT32_MAX, "a message with too many segments");
    return size;
  });
}

kj::Promise<kj::Maybe<capnp::MessageReaderAndFds>> Gatekeeper::tryReadMessage(
    kj::ArrayPtr<kj::AutoCloseFd>, capnp::ReaderOptions options,
    kj::ArrayPtr<capnp::word> scratch) {
  using Read = kj::Maybe<capnp::MessageReaderAndFds>;
  return throttle_->open()
      .then([this, options, scratch]() {
        incoming_.begin_message();
        return capnp::tryReadMessage(incoming_, options, scratch);
      })
      .then([](kj::Maybe<kj::Own<capnp::MessageReader>>&& read) -> Read {
        KJ_IF_MAYBE (message, read) {
          KJ_REQUIRE(is_plain((*message)->getRoot<Message>()),
                     "a message that this service has no use for");
          return capnp::MessageReaderAndFds{kj::mv(*message), nullptr};
        }
        return nullptr;
      });
}

kj::Promise<void> Gatekeeper::writeMessage(
    kj::ArrayPtr<const int> fds, kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) {
  return outgoing_.writeMessage(fds, segments).attach(throttle_->writing());
}

kj::Promise<void> Gatekeeper::writeMessages(
    kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) {
  return outgoing_.writeMessages(messages).attach(throttle_->writing());
}

}  // namespace ringtide::protocol
