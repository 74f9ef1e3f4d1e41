#include "actors/scheduler.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <utility>

namespace ringtide::actors {
namespace {

const protocol::Outcome kTooLarge{
    protocol::Code::Overloaded,
    "the session does not fit into memory, even alone: give the server a larger RAM budget", 0};

}  // namespace

// -- sessions ----

void SchedulerState::enter(Enter& m) {
  const SessionId id = m.id;
  drop(id);
  if (sessions.insert_or_assign(m.from.address(), id).second) self->monitor(m.from);
  clients.insert_or_assign(id, Client{std::move(m), {}, {}});
  batching.enter(id);
  pump();
}

void SchedulerState::hand_block(HandBlock& m) {
  Client* client = find_present(m.id, m.epoch);
  if (!client) return;
  client->blocks.push_back(std::move(m.tokens));
  batching.block(m.id);
  pump();
}

void SchedulerState::start_row(StartRow& m) {
  Client* client = find_present(m.id, m.epoch);
  if (!client) return;
  const SessionId id = m.id;
  const uint64_t row = m.row;
  client->row = std::move(m);
  batching.start_row(id, row);
  pump();
}

void SchedulerState::pause_row(const PauseRow& m) {
  if (!find(m.id, m.epoch)) return;
  batching.pause_row(m.id, m.pause);
  pump();
}

void SchedulerState::stop_row(const StopRow& m) {
  Client* client = find(m.id, m.epoch);
  if (!client) return;
  if (client->row && client->row->row == m.row) client->row.reset();
  batching.stop_row(m.id, m.row);
  pump();
}

void SchedulerState::leave(const Leave& m) {
  if (!find(m.id, m.epoch)) return;
  drop(m.id);
  pump();
}

void SchedulerState::session_down(const caf::actor_addr& session) {
  const auto it = sessions.find(session);
  if (it == sessions.end()) return;
  const SessionId id = it->second;
  sessions.erase(it);
  const auto client = clients.find(id);
  if (client == clients.end()) {
    batching.leave(id);
  } else if (client->second.request.from.address() == session) {
    drop(id);
  }  // else another actor has opened the session again
  pump();
}

SchedulerState::Client* SchedulerState::find(SessionId id, uint64_t epoch) {
  const auto it = clients.find(id);
  return it != clients.end() && it->second.request.epoch == epoch ? &it->second : nullptr;
}

// Of a session that works: if it has lost its place without hearing of it, it hears now.
SchedulerState::Client* SchedulerState::find_present(SessionId id, uint64_t epoch) {
  Client* client = find(id, epoch);
  if (!client || batching.present(id)) return client;
  const SessionActor session = client->request.from;
  drop(id);
  self->send(session, Left{epoch, Left::Why::Evicted});
  return nullptr;
}

void SchedulerState::drop(SessionId id) {
  if (clients.erase(id)) batching.leave(id);
}

// -- worker ----

void SchedulerState::done(PlanDone& m) {
  stats = m.stats;
  batching.done(m.plan, m.result, m.ended, m.displaced);
  if (const auto asked = entering.extract(m.plan)) {
    // The session may have left meanwhile, and asked again.
    Client* client = find(asked.mapped().id, asked.mapped().epoch);
    const bool settled = m.result == Batching::Outcome::Ok || m.result == Batching::Outcome::Failed;
    if (client && settled) {
      Enter& request = client->request;
      request.tokens.reset();  // the next place comes with its own
      request.lengths.reset();
      self->send(request.from, Entered{request.epoch, std::move(m.outcome), m.entered});
    }
  }
  pump();
}

void SchedulerState::use(const UseWorker& m) {
  worker = m.worker;
  stats = m.stats;
  entering.clear();
  batching.lost(m.cause);
  pump();
}

void SchedulerState::pump() {
  for (const Batching::Event& event : batching.take_events()) tell(event);
  if (!worker) return;
  while (const auto plan = batching.next()) order(*plan);
}

void SchedulerState::order(const Plan& plan) {
  WorkOrder order{plan, {}, {}, {}, {}};
  for (const SessionId id : plan.sessions) {
    const auto it = clients.find(id);
    if (it == clients.end()) continue;
    Client& client = it->second;
    switch (plan.kind) {
      case Plan::Kind::Enter:
        order.enter = client.request;
        entering[plan.number] = {id, client.request.epoch};
        break;
      case Plan::Kind::Block:
        for (int32_t i = 0; i < plan.blocks && !client.blocks.empty(); ++i) {
          const std::vector<model::TokenId>& block = client.blocks.front();
          order.tokens.insert(order.tokens.end(), block.begin(), block.end());
          order.lengths.push_back(static_cast<int32_t>(block.size()));
          client.blocks.pop_front();
        }
        break;
      case Plan::Kind::Decode:
        if (client.row) order.rows.push_back(*std::exchange(client.row, std::nullopt));
        break;
      case Plan::Kind::Leave:
        break;
    }
  }
  self->send(worker, std::move(order));
}

void SchedulerState::tell(const Batching::Event& event) {
  const auto it = clients.find(event.session);
  if (it == clients.end()) return;
  const SessionActor session = it->second.request.from;
  const uint64_t epoch = it->second.request.epoch;
  const auto gone = [&](Left::Why why) {
    clients.erase(it);
    self->send(session, Left{epoch, why});
  };
  switch (event.kind) {
    case Batching::Event::Kind::Refused:
      return self->send(session, Refused{epoch});
    case Batching::Event::Kind::RowStopped:
      return self->send(session, RowStopped{epoch, event.row});
    case Batching::Event::Kind::Evicted:
      return gone(Left::Why::Evicted);
    case Batching::Event::Kind::EngineLost:
      return gone(Left::Why::EngineLost);
    case Batching::Event::Kind::GivenUp:
      return gone(Left::Why::GivenUp);
    case Batching::Event::Kind::TooLarge:
      clients.erase(it);
      return self->send(session, Entered{epoch, kTooLarge, {}});
  }
}

void SchedulerState::report(ServerCall& m) {
  m.info.ram_budget = stats.ram_budget;
  m.info.ram_used = stats.ram_used;
  m.info.gpu_budget = stats.gpu_budget;
  m.info.gpu_used = stats.gpu_used;
  m.info.active = stats.contexts;
  const ArchiveActor archive = m.then;
  self->send(archive, std::move(m));
}

SchedulerActor::behavior_type scheduler(SchedulerActor::stateful_pointer<SchedulerState> self,
                                        Batching::Limits limits) {
  SchedulerState* state = &self->state;
  state->batching = Batching(limits);
  self->set_down_handler([state](caf::down_msg& m) { state->session_down(m.source); });
  return {
      [state](Enter& m) { state->enter(m); },
      [state](HandBlock& m) { state->hand_block(m); },
      [state](StartRow& m) { state->start_row(m); },
      [state](const PauseRow& m) { state->pause_row(m); },
      [state](const StopRow& m) { state->stop_row(m); },
      [state](const Leave& m) { state->leave(m); },
      [state](PlanDone& m) { state->done(m); },
      [state](const UseWorker& m) { state->use(m); },
      [state](ServerCall& m) { state->report(m); },
  };
}

}  // namespace ringtide::actors
