#include "actors/worker.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "actors/compose.h"
#include "model/shard_transport.h"

namespace ringtide::actors {

using protocol::FinishReason;

namespace {

constexpr std::chrono::milliseconds kLookAgain{10};

}  // namespace

void WorkerState::run(WorkOrder& order) {
  PlanDone done;
  done.plan = order.plan.number;
  const SessionId first = order.plan.sessions.empty() ? 0 : order.plan.sessions.front();
  switch (order.plan.kind) {
    case Plan::Kind::Enter:
      enter(*order.enter, done);
      break;
    case Plan::Kind::Block:
      try {
        blocks(first, order);
      } catch (const model::OutOfBudget& why) {
        displace(order.plan.sessions, why, done);
      }
      break;
    case Plan::Kind::Decode:
      for (StartRow& row : order.rows) start(row);
      try {
        burst(order.plan, done);
      } catch (const model::OutOfBudget& why) {
        displace(order.plan.sessions, why, done);
      }
      break;
    case Plan::Kind::Leave:
      leave(first);
      break;
  }
  done.stats = engine->stats();
  self->send(scheduler, std::move(done));
  if (!looks_again) hand_over();
}

// What a GPU copies to the host beside its passes gets to the store with the engine's next call:
// where nobody makes one, with this.
void WorkerState::hand_over() {
  looks_again = !engine->hand_over();
  if (looks_again) self->delayed_send(self, kLookAgain, HandOver{});
}

// A session with a past comes back a block at a time, so that the others have their turns
// meanwhile.
void WorkerState::enter(const Enter& request, PlanDone& done) {
  const SessionId id = request.id;
  try {
    const auto it = returning.find(id);
    if (it == returning.end() || it->second != request.epoch) {
      leave(id);
      if (request.tokens->empty()) {
        engine->open(id, request.policy);
      } else {
        engine->restore(id, request.policy, *request.tokens, *request.lengths);
        returning[id] = request.epoch;
      }
    }
    if (returning.contains(id)) {
      const auto replay = engine->replay(id);
      self->send(request.from, EnterProgress{request.epoch, replay.done, replay.total});
      if (!replay.finished) {
        done.result = Batching::Outcome::More;
        return;
      }
      returning.erase(id);
    }
    places.insert_or_assign(id, Place{request.from, request.epoch});
    done.entered = engine->stats(id);
  } catch (const model::OutOfBudget& error) {
    done.result = Batching::Outcome::NoRoom;
    done.outcome = {protocol::Code::Overloaded, error.what(), 0};
  } catch (const model::ModelError& error) {
    done.result = Batching::Outcome::Failed;
    done.outcome = {protocol::Code::Invalid, error.what(), 0};
  }
  if (done.result != Batching::Outcome::Ok) leave(id);
}

void WorkerState::leave(SessionId id) {
  rows.erase(id);
  places.erase(id);
  returning.erase(id);
  if (engine->has(id)) engine->close(id);
}

void WorkerState::blocks(SessionId id, const WorkOrder& order) {
  const auto place = places.find(id);
  if (place == places.end() || order.lengths.empty()) return;
  engine->prefill(id, order.tokens, order.lengths);
  self->send(place->second.session,
             Ran{place->second.epoch, order.lengths.size(), engine->stats(id)});
}

void WorkerState::displace(const std::vector<SessionId>& sessions, const model::OutOfBudget& why,
                           PlanDone& done) {
  spdlog::warn("{}", why.what());
  for (const SessionId id : sessions) {
    if (!places.contains(id) || engine->has(id)) continue;
    done.displaced.push_back(id);
    leave(id);
  }
}

// -- decoding ----

void WorkerState::start(StartRow& start) {
  Row row{.start = std::move(start),
          .params = {},
          .text = AnswerText(facts->tokenizer, {}),
          .left = 0,
          .pending = {}};
  row.params = sampling(*row.start.began);
  row.text = AnswerText(facts->tokenizer, row.start.began->stop, row.start.text);
  for (const model::TokenId token : row.start.answered) row.text.push(token);
  row.left = row.start.began->max_tokens - static_cast<int64_t>(row.start.answered.size());
  row.pending = row.start.pending;
  rows.insert_or_assign(row.start.id, std::move(row));
}

void WorkerState::burst(const Plan& plan, PlanDone& done) {
  std::vector<SessionId> active;
  for (const SessionId id : plan.sessions) {
    if (rows.contains(id) && places.contains(id)) active.push_back(id);
  }
  for (int32_t i = 0; i < plan.steps && !active.empty(); ++i) step(active, done);
}

void WorkerState::step(std::vector<SessionId>& active, PlanDone& done) {
  const auto end_row = [&](SessionId id) {
    done.ended.push_back({id, rows.at(id).start.row});
    rows.erase(id);
    return true;
  };
  std::erase_if(active, [&](SessionId id) { return *rows.at(id).start.stop && end_row(id); });

  std::vector<model::DecodeRow> inputs;
  for (const SessionId id : active) {
    if (const auto& pending = rows.at(id).pending) inputs.push_back({id, *pending});
  }
  if (!inputs.empty()) engine->decode(inputs);

  std::vector<model::SampleRow> asked;
  for (const SessionId id : active) asked.push_back({id, rows.at(id).params});
  std::vector<model::TokenId> tokens(asked.size());
  engine->sample(asked, tokens);

  size_t at = 0;
  std::erase_if(active, [&](SessionId id) {
    Row& row = rows.at(id);
    const Place& place = places.at(id);
    const model::TokenId token = tokens[at++];
    Stepped stepped{.epoch = place.epoch,
                    .row = row.start.row,
                    .token = token,
                    .ran = row.pending.has_value(),
                    .finish = finish(row, token),
                    .stats = engine->stats(id)};
    row.pending = token;
    const bool ended = stepped.finish.has_value();
    self->send(place.session, std::move(stepped));
    return ended && end_row(id);
  });
}

std::optional<FinishReason> WorkerState::finish(Row& row, model::TokenId token) {
  --row.left;
  if (facts->tokenizer->ends_generation(token)) return FinishReason::EndOfTurn;
  row.text.push(token);
  if (row.text.stopped()) return FinishReason::StopText;
  if (row.left <= 0) return FinishReason::MaxTokens;
  return std::nullopt;
}

WorkerActor::behavior_type worker(WorkerActor::stateful_pointer<WorkerState> self, FactsPtr facts,
                                  MakeEngine make, SchedulerActor scheduler,
                                  SupervisorActor supervisor) {
  WorkerState* state = &self->state;
  state->facts = std::move(facts);
  state->scheduler = std::move(scheduler);
  self->set_exception_handler([](std::exception_ptr& thrown) -> caf::error {
    try {
      std::rethrow_exception(thrown);
    } catch (const model::RingError& error) {
      spdlog::warn("the ring of shards is over: {}", error.what());
      return kRingLost;
    } catch (const std::exception& error) {
      spdlog::error("the worker failed: {}", error.what());
    } catch (...) {
      spdlog::error("the worker failed");
    }
    return caf::sec::runtime_error;
  });
  state->engine = make();
  self->send(supervisor, EngineReady{state->engine->stats()});
  return {[state](WorkOrder& m) { state->run(m); },
          [state](const HandOver&) { state->hand_over(); }};
}

}  // namespace ringtide::actors
