#include "protocol/gatekeeper.h"

#include <capnp/rpc.capnp.h>
#include <kj/debug.h>

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

kj::Promise<kj::Maybe<capnp::MessageReaderAndFds>> Gatekeeper::tryReadMessage(
    kj::ArrayPtr<kj::AutoCloseFd> fds, capnp::ReaderOptions options,
    kj::ArrayPtr<capnp::word> scratch) {
  return throttle_->open()
      .then([this, fds, options, scratch]() {
        return messages_.tryReadMessage(fds, options, scratch);
      })
      .then([](kj::Maybe<capnp::MessageReaderAndFds>&& read) {
        KJ_IF_MAYBE (message, read) {
          KJ_REQUIRE(is_plain(message->reader->getRoot<Message>()),
                     "a message that this service has no use for");
        }
        return kj::mv(read);
      });
}

kj::Promise<void> Gatekeeper::writeMessage(
    kj::ArrayPtr<const int> fds, kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) {
  return messages_.writeMessage(fds, segments).attach(throttle_->writing());
}

kj::Promise<void> Gatekeeper::writeMessages(
    kj::ArrayPtr<kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>> messages) {
  return messages_.writeMessages(messages).attach(throttle_->writing());
}

}  // namespace ringtide::protocol
