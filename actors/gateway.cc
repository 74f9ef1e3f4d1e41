#include "actors/gateway.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <mutex>
#include <utility>

#include "actors/handle.h"
#include "actors/open_request.h"
#include "actors/session.h"
#include "actors/summary.h"

namespace ringtide::actors {

using protocol::Code;
using protocol::Outcome;
using protocol::SessionInfo;

namespace {

// A session answers this at once, or after its last writes.
constexpr std::chrono::minutes kRetireTimeout{2};

const Outcome kStopping{Code::Stopping, "the server is going down; come back later", 0};
const Outcome kNoName{Code::Invalid, "which session? give its name, or its id", 0};

// Gathers the infos of many sessions; the last one to answer, or to be dropped, passes them on.
class Gathering {
 public:
  explicit Gathering(std::function<void(std::vector<SessionInfo>)> done) : done_(std::move(done)) {}
  ~Gathering() { done_(std::move(infos_)); }
  void add(const Outcome& outcome, SessionInfo info) {
    if (!outcome.ok()) return;
    const std::lock_guard lock(mutex_);
    infos_.push_back(std::move(info));
  }

 private:
  std::function<void(std::vector<SessionInfo>)> done_;
  std::mutex mutex_;
  std::vector<SessionInfo> infos_;  // guarded by mutex_
};

}  // namespace

template <class Call>
std::function<void()> GatewayState::again(const Call& call) {
  return [this, call] { self->send(self, call); };
}

std::map<SessionId, GatewayState::Entry>::iterator GatewayState::lookup(const std::string& name,
                                                                        SessionId id) {
  if (id) return sessions.find(id);
  return std::find_if(sessions.begin(), sessions.end(),
                      [&](const auto& each) { return each.second.name == name; });
}

// -- open ----

void GatewayState::open(OpenCall& m) {
  if (when_empty) return m.reply.fail(kStopping);
  if (auto wrong = invalid(m.request); !wrong.empty()) {
    return m.reply.fail({Code::Invalid, wrong, 0});
  }
  const auto it = lookup(m.request.name, m.request.id);
  if (it == sessions.end()) return self->send(archive, Find{self, std::move(m)});
  if (it->second.retiring) return it->second.deferred.push_back(again(m));
  if (m.request.must_create) {
    return m.reply.fail({Code::Exists, "there is a session '" + it->second.name + "' already", 0});
  }
  attach(it->first, it->second, m, false);
}

void GatewayState::found(Found& m) {
  const auto& request = m.call.request;
  if (when_empty) return m.call.reply.fail(kStopping);
  if (m.created && m.status.code() == storage::Code::Exists) return open(m.call);
  const bool absent = !m.created && m.status.code() == storage::Code::NotFound;
  if (absent && !request.must_exist && !request.id) return create(m);
  if (!m.status.ok()) return m.call.reply.fail(to_outcome(m.status));
  if (!m.created && request.must_create) {
    return m.call.reply.fail(
        {Code::Exists, "there is a session '" + m.entry.name + "' already", 0});
  }
  const auto it = sessions.find(m.entry.id);
  if (it != sessions.end() && it->second.retiring) {
    return it->second.deferred.push_back(again(m.call));
  }
  if (it != sessions.end()) return attach(it->first, it->second, m.call, false);
  if (!has_room(m.call, again(m))) return;
  Entry& entry = sessions[m.entry.id];
  entry.name = m.entry.name;
  entry.session = self->spawn<caf::monitored>(actors::session, facts, m.entry, archive, scheduler);
  attach(m.entry.id, entry, m.call, m.created);
}

void GatewayState::create(Found& m) {
  if (!has_room(m.call, again(m.call))) return;
  try {
    storage::Opened opened = compose_opened(*facts, m.call.request);
    self->send(archive, Create{self, std::move(m.call), std::move(opened)});
  } catch (const model::ModelError& error) {
    m.call.reply.fail({Code::Invalid, error.what(), 0});
  }
}

void GatewayState::attach(SessionId id, Entry& entry, const OpenCall& call, bool created) {
  ++entry.holds;
  auto reply = [call, created, id, session = entry.session, gateway = GatewayActor(self)](
                   Outcome outcome, SessionInfo info) {
    if (!outcome.ok()) return call.reply.fail(std::move(outcome));
    call.reply({}, make_handle(id, session, gateway), std::move(info), created);
  };
  self->send(entry.session, StateCall{Answer<SessionInfo>(std::move(reply))});
}

// True if there is room now. Else `call` is made again, as `again`, when the session unheld longest
// is gone, or refused.
bool GatewayState::has_room(const OpenCall& call, std::function<void()> again) {
  if (sessions.size() < facts->max_sessions) return true;
  const auto overloaded = [call] {
    call.reply.fail({Code::Overloaded,
                     "as many sessions are open as the server allows: close one, or try later", 0});
  };
  auto oldest = sessions.end();
  for (auto it = sessions.begin(); it != sessions.end(); ++it) {
    if (it->second.holds > 0 || it->second.retiring) continue;
    if (oldest == sessions.end() || it->second.unheld_since < oldest->second.unheld_since) {
      oldest = it;
    }
  }
  if (oldest == sessions.end()) {
    overloaded();
    return false;
  }
  oldest->second.unheld_since = ++calls;  // if it is at work, the next one to be asked is another
  retire(oldest->first, Retire::Why::Room, std::move(again), overloaded);
  return false;
}

// -- ends of sessions ----

// Calls `again` when the session is gone, `refused` if it stays.
void GatewayState::retire(SessionId id, Retire::Why why, std::function<void()> again,
                          std::function<void()> refused) {
  Entry& entry = sessions.at(id);
  entry.retiring = true;
  entry.deferred.push_back(std::move(again));
  const auto stays = [this, id, refused = std::move(refused)] {
    const auto it = sessions.find(id);
    if (it == sessions.end()) return;
    it->second.retiring = false;
    auto deferred = std::exchange(it->second.deferred, {});
    deferred.front() = refused;
    for (const auto& call : deferred) call();
  };
  self->request(entry.session, kRetireTimeout, Retire{why})
      .then(
          [stays](const Retired& m) {
            if (!m.ended) stays();
          },
          [](const caf::error&) {});  // it failed meanwhile: session_down() sees to the rest
}

void GatewayState::session_down(const caf::down_msg& m) {
  const auto it = std::find_if(sessions.begin(), sessions.end(), [&](const auto& each) {
    return each.second.session.address() == m.source;
  });
  if (it == sessions.end()) return;
  if (m.reason) spdlog::error("session '{}' failed", it->second.name);
  const auto deferred = std::move(it->second.deferred);
  sessions.erase(it);
  for (const auto& call : deferred) call();
  if (when_empty && sessions.empty()) std::exchange(when_empty, [] {})();
}

void GatewayState::detach(const Detach& m) {
  const auto it = sessions.find(m.id);
  // The hold may be one on an earlier actor of the session, which failed.
  if (it == sessions.end() || it->second.session != m.session) return;
  if (--it->second.holds > 0) return;
  it->second.unheld_since = ++calls;
  self->send(it->second.session, Detached{});
}

void GatewayState::remove(const RemoveCall& m) {
  if (when_empty) return m.reply.fail(kStopping);
  if (m.name.empty() && !m.id) return m.reply.fail(kNoName);
  const auto it = lookup(m.name, m.id);
  if (it == sessions.end()) return self->send(archive, Remove{m});
  if (it->second.retiring) return it->second.deferred.push_back(again(m));
  retire(it->first, Retire::Why::Removal, again(m), [m] {
    m.reply.fail({Code::Busy, "the session is generating: cancel it first, then remove it", 0});
  });
}

void GatewayState::shutdown(const Shutdown& m) {
  when_empty = m.done;
  if (sessions.empty()) return std::exchange(when_empty, [] {})();
  for (const auto& [id, entry] : sessions) {
    self->request(entry.session, kRetireTimeout, Retire{Retire::Why::Shutdown})
        .then([](const Retired&) {},
              [session = entry.session, this](const caf::error&) {
                self->send_exit(session, caf::exit_reason::user_shutdown);
              });
  }
}

void GatewayState::use(const UseRooms& m) {
  archive = m.archive;
  scheduler = m.scheduler;
}

// -- what there is ----

void GatewayState::list(const ListCall& m) {
  auto gathering =
      std::make_shared<Gathering>([m, archive = archive](std::vector<SessionInfo> live) {
        caf::anon_send(archive, Summarise{{}, 0, std::move(live), m.reply});
      });
  for (const auto& [id, entry] : sessions) {
    self->send(entry.session,
               StateCall{Answer<SessionInfo>([gathering](Outcome outcome, SessionInfo info) {
                 gathering->add(outcome, std::move(info));
               })});
  }
}

void GatewayState::info(const InfoCall& m) {
  if (m.name.empty() && !m.id) return m.reply.fail(kNoName);
  const auto it = lookup(m.name, m.id);
  if (it != sessions.end()) return ask_info(it->second.session, archive, m.reply);
  self->send(archive, Summarise{m.name, m.id, {}, single(m.reply)});
}

void GatewayState::report(ServerCall& m) {
  m.info.version = facts->version;
  m.info.model = facts->model;
  m.info.fingerprint = facts->fingerprint;
  m.info.store = facts->store_path;
  m.info.trained_context = facts->trained_context;
  m.info.parameters_bytes = facts->weight_bytes;
  m.info.threads = facts->threads;
  m.then = archive;
  self->send(scheduler, std::move(m));
}

GatewayActor::behavior_type gateway(GatewayActor::stateful_pointer<GatewayState> self,
                                    FactsPtr facts, ArchiveActor archive,
                                    SchedulerActor scheduler) {
  GatewayState* state = &self->state;
  state->facts = std::move(facts);
  state->archive = std::move(archive);
  state->scheduler = std::move(scheduler);
  self->set_down_handler([state](const caf::down_msg& m) { state->session_down(m); });
  return {
      [state](OpenCall& m) { state->open(m); },
      [state](const ListCall& m) { state->list(m); },
      [state](const InfoCall& m) { state->info(m); },
      [state](const RemoveCall& m) { state->remove(m); },
      [state](ServerCall& m) { state->report(m); },
      [state](const Detach& m) { state->detach(m); },
      [state](Found& m) { state->found(m); },
      [state](const UseRooms& m) { state->use(m); },
      [state](const Shutdown& m) { state->shutdown(m); },
  };
}

}  // namespace ringtide::actors
