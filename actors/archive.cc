#include "actors/archive.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <exception>
#include <utility>

#include "actors/summary.h"

namespace ringtide::actors {

namespace {

// Reads whole logs: of one request after another, however many are made.
SummariserActor::behavior_type summariser(SummariserActor::pointer, storage::Store* store) {
  return {[store](const Summarise& m) {
    try {
      auto summaries = summarise(*store, m.name, m.id, m.live);
      if (!summaries.ok()) return m.reply.fail(to_outcome(summaries.status()));
      m.reply({}, std::move(summaries.value()));
    } catch (const std::exception& error) {
      m.reply.fail({protocol::Code::Internal, error.what(), 0});
    }
  }};
}

}  // namespace

template <class... Args>
auto ArchiveState::spawn_beside(Args&&... args) {
  return detached ? self->spawn<caf::linked + caf::detached>(std::forward<Args>(args)...)
                  : self->spawn<caf::linked>(std::forward<Args>(args)...);
}

// -- logs ----

void ArchiveState::write(Write& m) {
  if (waiting.empty()) self->send(self, Commit{});
  waiting.push_back(std::move(m));
}

void ArchiveState::commit() {
  std::vector<Write> group;
  std::vector<storage::LogWrite> writes;
  for (Write& m : std::exchange(waiting, {})) {
    const auto it = failed.find(m.write.session);
    if (it != failed.end() && m.incarnation <= it->second.incarnation) {
      answer(m, it->second.status);
      continue;
    }
    writes.push_back(std::move(m.write));
    group.push_back(std::move(m));
  }
  if (writes.empty()) return;
  storage::Status status = store->append(writes);
  for (size_t i = 0; i < group.size(); ++i) group[i].write = std::move(writes[i]);
  if (status.ok() || group.size() == 1) {
    for (const Write& m : group) answer(m, status);
    return;
  }
  // One of them may be at fault: each for itself, so that it spoils nobody else's.
  for (const Write& m : group) {
    const auto it = failed.find(m.write.session);
    const bool behind = it != failed.end() && m.incarnation <= it->second.incarnation;
    answer(m, behind ? it->second.status : store->append({&m.write, 1}));
  }
}

void ArchiveState::answer(const Write& m, const storage::Status& status) {
  if (!status.ok()) {
    failed.insert_or_assign(m.write.session, Failure{m.incarnation, status});
    spdlog::error("log of session {}: {}", m.write.session, status.message());
  }
  self->send(m.from, Written{m.incarnation, status, m.write.record});
}

void ArchiveState::load(const Load& m) {
  // What an earlier life of the session sent is settled first: the log holds still while it is
  // read.
  commit();
  failed.erase(m.id);
  // Takes as long as the log is: on a thread of its own.
  const auto read = [store = store, m](caf::event_based_actor*) {
    auto log = std::make_shared<SessionLog>();
    storage::Status status = read_log(*store, m.id, *log);
    caf::anon_send(m.to, Loaded{m.incarnation, std::move(status), std::move(log)});
  };
  if (detached) {
    self->spawn<caf::detached>(read);
  } else {
    self->spawn(read);
  }
}

// -- sessions ----

void ArchiveState::find(Find& m) {
  const auto& request = m.call.request;
  auto found = request.id ? store->find(request.id) : store->find(request.name);
  const GatewayActor to = m.to;
  self->send(to, Found{std::move(m.call), found.status(),
                       found.ok() ? found.value() : storage::SessionEntry{}, false});
}

void ArchiveState::create(Create& m) {
  auto made = store->create(m.call.request.name, m.opened);
  const GatewayActor to = m.to;
  self->send(to, Found{std::move(m.call), made.status(),
                       made.ok() ? made.value() : storage::SessionEntry{}, true});
}

void ArchiveState::remove(const Remove& m) {
  const auto found = m.call.id ? store->find(m.call.id) : store->find(m.call.name);
  if (found.ok()) failed.erase(found.value().id);
  self->send(keeper, m);
}

void ArchiveState::flush(const Flush& m) {
  commit();
  self->send(keeper, m);
}

void ArchiveState::report(ServerCall& m) {
  const storage::StoreStats stats = store->stats();
  m.info.store_bytes = stats.unit_bytes;
  m.info.sessions = stats.sessions;
  m.reply({}, std::move(m.info));
}

ArchiveActor::behavior_type archive(ArchiveActor::stateful_pointer<ArchiveState> self,
                                    storage::Store* store, UnitShelf* shelf, bool detached) {
  ArchiveState* state = &self->state;
  state->store = store;
  state->detached = detached;
  state->keeper = state->spawn_beside(actors::keeper, store, shelf);
  state->summariser = state->spawn_beside(summariser, store);
  return {
      [state](Write& m) { state->write(m); },
      [state](const Commit&) { state->commit(); },
      [state](const UnitsWait& m) { state->self->send(state->keeper, m); },
      [state](const Load& m) { state->load(m); },
      [state](Find& m) { state->find(m); },
      [state](Create& m) { state->create(m); },
      [state](const Remove& m) { state->remove(m); },
      [state](const Summarise& m) { state->self->send(state->summariser, m); },
      [state](ServerCall& m) { state->report(m); },
      [state](const Flush& m) { state->flush(m); },
  };
}

}  // namespace ringtide::actors
