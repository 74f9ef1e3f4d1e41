// One stream of text into a session. Inside this room only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "protocol/loop.h"
#include "protocol/wire.h"

namespace ringtide::protocol {

// Loop thread. The RPC system runs its calls one at a time, in order, because write is a stream:
// the next write comes when the service has accepted the last one.
class AppendStream final : public wire::TextStream::Server, private kj::TaskSet::ErrorHandler {
 public:
  AppendStream(std::shared_ptr<SessionHandle> session, std::optional<uint64_t> offset);

  kj::Promise<void> write(WriteContext context) override;
  kj::Promise<void> position(PositionContext context) override;
  kj::Promise<void> end(EndContext context) override;

 private:
  void note(const Outcome& outcome);
  void note_durable(const Outcome& outcome, uint64_t bytes, uint64_t offset);
  // Of a stream that wrote nothing: the offset the session holds, checked against the one named.
  kj::Promise<void> end_empty(EndContext context);
  void taskFailed(kj::Exception&& exception) override;

  const std::shared_ptr<SessionHandle> session_;
  const std::optional<uint64_t> start_;
  uint64_t written_ = 0;  // bytes given to the service
  uint64_t durable_ = 0;  // bytes of them it has made durable
  uint64_t offset_ = 0;   // after the last durable byte
  bool ended_ = false;
  Outcome failure_;       // the first; ok as long as there is none
  kj::TaskSet durables_;  // one for each write that is not durable yet
};

}  // namespace ringtide::protocol
