#include "protocol/session_rpc.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "protocol/append_rpc.h"

namespace ringtide::protocol {

SessionServer::SessionServer(std::shared_ptr<SessionHandle> session, Link link)
    : session_(std::move(session)), link_(std::move(link)) {}

kj::Promise<void> SessionServer::append(AppendContext context) {
  std::optional<uint64_t> offset;
  const auto params = context.getParams();
  if (params.isOffset()) offset = params.getOffset();
  context.getResults().setStream(kj::heap<AppendStream>(session_, offset));
  return kj::READY_NOW;
}

kj::Promise<void> SessionServer::generate(GenerateContext context) {
  context.allowCancellation();
  const auto call = context.getParams();
  auto generation = std::make_shared<Generation>(call.getSink(), link_.max_queued_bytes);
  const protocol::GenerateParams params = read(call.getParams());
  context.releaseParams();

  std::erase_if(generations_, [](const auto& g) { return g.expired(); });
  generations_.push_back(generation);
  auto answer = generation->start(*session_, params, link_.post);
  return answer
      .then([context](Generation::Answer&& answer) mutable {
        const auto& [outcome, result] = answer;
        if (outcome.ok()) {
          write(result, context.getResults().initResult());
        } else {
          write(outcome, context.getResults().initError());
        }
      })
      .attach(kj::mv(generation));
}

kj::Promise<void> SessionServer::cancel(CancelContext) {
  for (const auto& weak : generations_) {
    if (auto generation = weak.lock()) generation->cancel();
  }
  return kj::READY_NOW;
}

kj::Promise<void> SessionServer::info(InfoContext context) {
  context.allowCancellation();
  auto question = ask<Outcome, SessionInfo>();
  session_->info(question.reply);
  return question.answer
      .then([context](std::tuple<Outcome, SessionInfo>&& answer) mutable {
        const auto& [outcome, info] = answer;
        if (outcome.ok()) {
          write(info, context.getResults().initInfo());
        } else {
          write(outcome, context.getResults().initError());
        }
      })
      .attach(link_.throttle->call());
}

}  // namespace ringtide::protocol
