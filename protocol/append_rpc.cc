#include "protocol/append_rpc.h"

#include <string>
#include <utility>

namespace ringtide::protocol {

AppendStream::AppendStream(std::shared_ptr<SessionHandle> session, std::optional<uint64_t> offset)
    : session_(std::move(session)), start_(offset), durables_(*this) {}

kj::Promise<void> AppendStream::write(WriteContext context) {
  context.allowCancellation();
  const capnp::Data::Reader bytes = context.getParams().getText();
  if (!failure_.ok() || bytes.size() == 0) return kj::READY_NOW;
  if (ended_) {
    failure_ = {Code::Invalid, "a write after end(); open another stream", 0};
    return kj::READY_NOW;
  }
  std::optional<uint64_t> at;
  if (start_) at = *start_ + written_;
  std::string text = to_string(bytes);
  context.releaseParams();
  const uint64_t size = text.size();
  written_ += size;

  auto accepted = ask<Outcome>();
  auto durable = ask<Outcome, uint64_t>();
  session_->append(std::move(text), at, accepted.reply, durable.reply);
  durables_.add(durable.answer.then([this, size](std::tuple<Outcome, uint64_t>&& answer) {
    note_durable(std::get<0>(answer), size, std::get<1>(answer));
  }));
  return accepted.answer.then([this](std::tuple<Outcome>&& answer) { note(std::get<0>(answer)); });
}

kj::Promise<void> AppendStream::position(PositionContext context) {
  auto position = context.getResults(capnp::MessageSize{8, 0});
  position.setBytes(durable_);
  position.setFailed(!failure_.ok());
  return kj::READY_NOW;
}

kj::Promise<void> AppendStream::end(EndContext context) {
  context.allowCancellation();
  ended_ = true;
  if (written_ == 0 && failure_.ok()) return end_empty(context);
  return durables_.onEmpty().then([this, context]() mutable {
    if (failure_.ok()) {
      context.getResults().setOffset(offset_);
    } else {
      protocol::write(failure_, context.getResults().initError());
    }
  });
}

kj::Promise<void> AppendStream::end_empty(EndContext context) {
  auto question = ask<Outcome, SessionInfo>();
  session_->info(question.reply);
  return question.answer.then([this, context](std::tuple<Outcome, SessionInfo>&& answer) mutable {
    auto& [outcome, info] = answer;
    const uint64_t held = info.appended_bytes;
    if (outcome.ok() && start_ && *start_ != held) {
      outcome = {Code::OffsetMismatch,
                 "the session holds " + std::to_string(held) + " bytes of appended text, not " +
                     std::to_string(*start_) + "; append from there",
                 held};
    }
    if (outcome.ok()) {
      context.getResults().setOffset(held);
    } else {
      protocol::write(outcome, context.getResults().initError());
    }
  });
}

void AppendStream::note(const Outcome& outcome) {
  if (failure_.ok() && !outcome.ok()) failure_ = outcome;
}

void AppendStream::note_durable(const Outcome& outcome, uint64_t bytes, uint64_t offset) {
  note(outcome);
  if (!outcome.ok()) return;
  durable_ += bytes;
  offset_ = std::max(offset_, offset);
}

void AppendStream::taskFailed(kj::Exception&& exception) {
  note({Code::Internal,
        "the service gave no answer to a write (" + std::string(exception.getDescription().cStr()) +
            "); open the session again and ask what it holds",
        0});
}

}  // namespace ringtide::protocol
