#include "protocol/service_rpc.h"

#include <string>
#include <utility>

namespace ringtide::protocol {
namespace {

// Answers a call with what the service replies: `fill` writes the value, an outcome that is not ok
// becomes the error of the results' union.
template <class Context, class T, class Fill>
kj::Promise<void> answer(Context context, Question<Outcome, T> question, const Link& link,
                         Fill fill) {
  return question.answer
      .then([context, fill](std::tuple<Outcome, T>&& reply) mutable {
        const auto& [outcome, value] = reply;
        if (outcome.ok()) {
          fill(value, context.getResults());
        } else {
          write(outcome, context.getResults().initError());
        }
      })
      .attach(link.throttle->call());
}

}  // namespace

kj::Promise<void> ServiceServer::open(OpenContext context) {
  context.allowCancellation();
  const OpenRequest request = read(context.getParams());
  context.releaseParams();
  using Handle = std::shared_ptr<SessionHandle>;
  auto question = ask<Outcome, Handle, SessionInfo, bool>();
  link_.service.open(request, question.reply);
  return question.answer
      .then(
          [context, link = link_](std::tuple<Outcome, Handle, SessionInfo, bool>&& reply) mutable {
            auto& [outcome, handle, info, created] = reply;
            if (!outcome.ok()) return write(outcome, context.getResults().initError());
            auto opened = context.getResults().initOpened();
            opened.setSession(kj::heap<SessionServer>(std::move(handle), std::move(link)));
            write(info, opened.initInfo());
            opened.setCreated(created);
          })
      .attach(link_.throttle->call());
}

kj::Promise<void> ServiceServer::list(ListContext context) {
  context.allowCancellation();
  auto question = ask<Outcome, std::vector<SessionInfo>>();
  link_.service.list(question.reply);
  return answer(context, kj::mv(question), link_,
                [](const auto& sessions, auto results) { write(sessions, results); });
}

kj::Promise<void> ServiceServer::info(InfoContext context) {
  context.allowCancellation();
  const auto session = context.getParams().getSession();
  auto question = ask<Outcome, SessionInfo>();
  link_.service.info(to_string(session.getName()), session.getId(), question.reply);
  return answer(context, kj::mv(question), link_,
                [](const auto& info, auto results) { write(info, results.initInfo()); });
}

kj::Promise<void> ServiceServer::remove(RemoveContext context) {
  context.allowCancellation();
  const auto session = context.getParams().getSession();
  auto question = ask<Outcome>();
  link_.service.remove(to_string(session.getName()), session.getId(), question.reply);
  return question.answer
      .then([context](std::tuple<Outcome>&& reply) mutable {
        const Outcome& outcome = std::get<0>(reply);
        if (outcome.ok()) {
          context.getResults().setRemoved();
        } else {
          write(outcome, context.getResults().initError());
        }
      })
      .attach(link_.throttle->call());
}

kj::Promise<void> ServiceServer::tokenize(TokenizeContext context) {
  context.allowCancellation();
  std::string text = to_string(context.getParams().getText());
  context.releaseParams();
  if (const Outcome fits = tokenizable(text.size()); !fits.ok()) {
    write(fits, context.getResults().initError());
    return kj::READY_NOW;
  }
  auto question = ask<Outcome, Tokens>();
  link_.service.tokenize(std::move(text), question.reply);
  return answer(context, kj::mv(question), link_,
                [](const auto& tokens, auto results) { write(tokens, results); });
}

kj::Promise<void> ServiceServer::server(ServerContext context) {
  context.allowCancellation();
  auto question = ask<Outcome, ServerInfo>();
  link_.service.server(question.reply);
  return answer(context, kj::mv(question), link_,
                [](const auto& info, auto results) { write(info, results.initServer()); });
}

}  // namespace ringtide::protocol
