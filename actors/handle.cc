#include "actors/handle.h"

#include <caf/all.hpp>
#include <utility>

namespace ringtide::actors {

using protocol::Outcome;
using protocol::SessionInfo;

Answer<std::vector<SessionInfo>> single(const Answer<SessionInfo>& reply) {
  return Answer<std::vector<SessionInfo>>([reply](Outcome outcome, std::vector<SessionInfo> infos) {
    if (!outcome.ok() || infos.empty()) return reply.fail(std::move(outcome));
    reply({}, std::move(infos.front()));
  });
}

void ask_info(const SessionActor& session, const ArchiveActor& archive,
              const Answer<SessionInfo>& reply) {
  caf::anon_send(session,
                 StateCall{Answer<SessionInfo>([archive, reply](Outcome outcome, SessionInfo info) {
                   if (!outcome.ok()) return reply.fail(std::move(outcome));
                   const SessionId id = info.id;
                   caf::anon_send(archive, Summarise{{}, id, {std::move(info)}, single(reply)});
                 })});
}

namespace {

class Handle : public protocol::SessionHandle {
 public:
  Handle(SessionId id, SessionActor session, GatewayActor gateway)
      : id_(id), session_(std::move(session)), gateway_(std::move(gateway)) {}
  ~Handle() override { caf::anon_send(gateway_, Detach{id_, session_}); }

  void append(std::string text, std::optional<uint64_t> offset,
              std::function<void(Outcome)> accepted, protocol::Reply<uint64_t> durable) override {
    caf::anon_send(session_, AppendCall{std::move(text), offset, Answer<>(std::move(accepted)),
                                        Answer<uint64_t>(std::move(durable))});
  }

  std::function<void()> generate(const protocol::GenerateParams& params,
                                 std::shared_ptr<protocol::TextSink> sink,
                                 protocol::Reply<protocol::GenerateResult> done) override {
    auto stop = std::make_shared<std::atomic<bool>>(false);
    caf::anon_send(session_, GenerateCall{params, std::move(sink),
                                          Answer<protocol::GenerateResult>(std::move(done)), stop,
                                          std::chrono::steady_clock::now()});
    return [session = session_, stop] { caf::anon_send(session, CancelCall{stop}); };
  }

  void info(protocol::Reply<SessionInfo> reply) override {
    caf::anon_send(gateway_, InfoCall{{}, id_, Answer<SessionInfo>(std::move(reply))});
  }

 private:
  const SessionId id_;
  const SessionActor session_;
  const GatewayActor gateway_;
};

class Door : public protocol::Service {
 public:
  Door(caf::actor_system& system, FactsPtr facts, GatewayActor gateway)
      : system_(system), facts_(std::move(facts)), gateway_(std::move(gateway)) {}

  void open(const protocol::OpenRequest& request,
            std::function<void(Outcome, HandlePtr, SessionInfo, bool)> reply) override {
    caf::anon_send(gateway_,
                   OpenCall{request, Answer<HandlePtr, SessionInfo, bool>(std::move(reply))});
  }

  void list(protocol::Reply<std::vector<SessionInfo>> reply) override {
    caf::anon_send(gateway_, ListCall{Answer<std::vector<SessionInfo>>(std::move(reply))});
  }

  void info(const std::string& name, uint64_t id, protocol::Reply<SessionInfo> reply) override {
    if (facts_->shards) reply = with_shards(std::move(reply));
    caf::anon_send(gateway_, InfoCall{name, id, Answer<SessionInfo>(std::move(reply))});
  }

  void remove(const std::string& name, uint64_t id, std::function<void(Outcome)> reply) override {
    caf::anon_send(gateway_, RemoveCall{name, id, Answer<>(std::move(reply))});
  }

  // May take long: an actor that lives for this alone.
  void tokenize(std::string text,
                protocol::Reply<std::vector<std::pair<int32_t, std::string>>> reply) override {
    system_.spawn([tokenizer = facts_->tokenizer, text = std::move(text),
                   reply = std::move(reply)](caf::event_based_actor*) {
      std::vector<std::pair<int32_t, std::string>> tokens;
      for (const model::TokenId token : tokenizer->encode(text)) {
        tokens.emplace_back(token, std::string(tokenizer->bytes(token)));
      }
      reply({}, std::move(tokens));
    });
  }

  void server(protocol::Reply<protocol::ServerInfo> reply) override {
    caf::anon_send(gateway_, ServerCall{{}, Answer<protocol::ServerInfo>(std::move(reply)), {}});
  }

 private:
  protocol::Reply<SessionInfo> with_shards(protocol::Reply<SessionInfo> reply) const {
    return [facts = facts_, reply = std::move(reply)](Outcome outcome, SessionInfo info) {
      if (!outcome.ok()) return reply(std::move(outcome), std::move(info));
      facts->shards(info, [reply, info](std::vector<protocol::ShardInfo> shards) {
        SessionInfo all = info;
        all.shards = std::move(shards);
        reply({}, std::move(all));
      });
    };
  }

  caf::actor_system& system_;
  const FactsPtr facts_;
  const GatewayActor gateway_;
};

}  // namespace

HandlePtr make_handle(SessionId id, SessionActor session, GatewayActor gateway) {
  return std::make_shared<Handle>(id, std::move(session), std::move(gateway));
}

std::unique_ptr<protocol::Service> make_service(caf::actor_system& system, FactsPtr facts,
                                                GatewayActor gateway) {
  return std::make_unique<Door>(system, std::move(facts), std::move(gateway));
}

}  // namespace ringtide::actors
