#include "actors/supervisor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "actors/archive.h"
#include "actors/gateway.h"
#include "actors/scheduler.h"

namespace ringtide::actors {
namespace {

using Cause = Batching::Cause;

bool lost_ring(const caf::down_msg& m) { return m.reason == kRingLost; }

constexpr std::chrono::milliseconds kFirstDelay{500};
constexpr std::chrono::milliseconds kLongestDelay{30000};

}  // namespace

void SupervisorState::start() {
  start_archive();
  start_scheduler();
  gateway = self->spawn(actors::gateway, parts.facts, archive, scheduler);
  start_worker();
}

void SupervisorState::start_archive() {
  archive = parts.detached
                ? self->spawn<caf::monitored + caf::detached>(actors::archive, parts.store,
                                                              parts.shelf, true)
                : self->spawn<caf::monitored>(actors::archive, parts.store, parts.shelf, false);
  parts.shelf->on_wake([to = archive] { caf::anon_send(to, UnitsWait{}); });
}

void SupervisorState::start_scheduler() {
  scheduler = self->spawn<caf::monitored>(actors::scheduler, parts.limits);
}

void SupervisorState::start_worker() {
  ready = false;
  const SupervisorActor me = self;
  worker = parts.detached ? self->spawn<caf::monitored + caf::detached>(
                                actors::worker, parts.facts, parts.make_engine, scheduler, me)
                          : self->spawn<caf::monitored>(actors::worker, parts.facts,
                                                        parts.make_engine, scheduler, me);
}

void SupervisorState::engine_ready(const EngineReady& m) {
  ready = true;
  delay = {};
  self->send(scheduler, UseWorker{worker, {}, m.stats});
  if (!std::exchange(started, true)) parts.started(gateway);
}

void SupervisorState::down(const caf::down_msg& m) {
  if (closing) return;
  if (m.source == worker.address()) {
    if (!started) return parts.started({});
    // What it held is lost, whenever the next comes.
    if (ready) self->send(scheduler, UseWorker{{}, lost_ring(m) ? Cause::Ring : Cause::Work, {}});
    delay =
        ready ? std::chrono::milliseconds{0} : std::clamp(delay * 2, kFirstDelay, kLongestDelay);
    spdlog::warn("starting another worker in {} ms", delay.count());
    return self->delayed_send(self, delay, StartWorker{});
  }
  if (m.source == archive.address()) {
    spdlog::critical("the archive failed; sessions open again from the store");
    start_archive();
  } else if (m.source == scheduler.address()) {
    spdlog::critical("the scheduler failed; sessions open again from the store");
    start_scheduler();
    self->demonitor(worker.address());
    self->send_exit(worker, caf::exit_reason::kill);
    start_worker();
  }
  self->send(gateway, UseRooms{archive, scheduler});
}

void SupervisorState::shutdown(const Shutdown& m) {
  // Sessions first, then what they wrote, then the rest.
  const auto last = [me = SupervisorActor(self), done = m.done] {
    caf::anon_send_exit(me, caf::exit_reason::user_shutdown);
    done();
  };
  self->send(gateway,
             Shutdown{[archive = archive, last] { caf::anon_send(archive, Flush{last}); }});
}

void SupervisorState::end() {
  closing = true;
  parts.shelf->abandon();
  parts.shelf->on_wake({});  // it holds the archive, whose thread ends with its last holder
  const auto reason = caf::exit_reason::user_shutdown;
  self->send_exit(gateway, reason);
  self->send_exit(worker, reason);
  self->send_exit(scheduler, reason);
  self->send_exit(archive, reason);
  self->quit();
}

SupervisorActor::behavior_type supervisor(SupervisorActor::stateful_pointer<SupervisorState> self,
                                          Parts parts) {
  SupervisorState* state = &self->state;
  state->parts = std::move(parts);
  state->start();
  self->set_down_handler([state](const caf::down_msg& m) { state->down(m); });
  self->set_exit_handler([state](const caf::exit_msg&) { state->end(); });
  return {
      [state](const StartWorker&) { state->start_worker(); },
      [state](const EngineReady& m) { state->engine_ready(m); },
      [state](const Shutdown& m) { state->shutdown(m); },
  };
}

}  // namespace ringtide::actors
