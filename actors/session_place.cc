// The session's place in the engine: asked for when there is work, fed block by block, lost and
// asked for again.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <utility>

#include "actors/session.h"

namespace ringtide::actors {

using protocol::Code;
using protocol::Outcome;

bool SessionState::wants_blocks() const { return ran_blocks < log.blocks().size(); }

// Does what can be done next; called whenever something has changed.
void SessionState::pump() {
  if (loading || halted) return;
  backlog.ran(ran_tokens, log.runnable());
  release_accepted();
  const bool wants_begin = answer && !answer->began_sent && !answer->finish;
  if (!wants_begin && !wants_blocks() && !wants_row()) {
    // A place is given up for others once it has been used; one asked for in vain would stay.
    const bool waits = !writes.empty() || (answer && answer->row_runs);
    if (place == PlaceState::Present && !worked && !waits) leave();
    return;
  }
  switch (place) {
    case PlaceState::None:
      return enter();
    case PlaceState::Asked:
      if (no_room && wants_begin) refuse_answer();
      return;
    case PlaceState::Present:
      break;
  }
  if (wants_begin) {
    answer->began_sent = true;
    write(compose_began(writing(), ahead, answer->call.params));
  }
  if (answer && answer->row_runs) return;
  hand_blocks();
  if (wants_row() && !wants_blocks()) start_row();
}

void SessionState::hand_blocks() {
  while (handed < facts->blocks_ahead && ran_blocks + handed < log.blocks().size()) {
    int64_t from = ran_tokens;
    for (size_t i = 0; i < handed; ++i) from += log.blocks()[ran_blocks + i];
    const auto begin = log.tokens().begin() + from;
    self->send(scheduler,
               HandBlock{entry.id, epoch, {begin, begin + log.blocks()[ran_blocks + handed]}});
    ++handed;
  }
}

// With what has run in earlier places. Tokens that ran before they were durable are not in the log
// yet: then it waits for them.
void SessionState::enter() {
  if (ran_blocks > log.blocks().size()) return;
  place = PlaceState::Asked;
  ++epoch;
  restoring = {epoch, 0, ran_tokens};
  self->send(scheduler, Enter{.from = self,
                              .id = entry.id,
                              .epoch = epoch,
                              .policy = log.policy(),
                              .tokens = std::make_shared<const std::vector<model::TokenId>>(
                                  log.tokens().begin(), log.tokens().begin() + ran_tokens),
                              .lengths = std::make_shared<const std::vector<int32_t>>(
                                  log.blocks().begin(), log.blocks().begin() + ran_blocks)});
}

void SessionState::entered(const Entered& m) {
  if (m.epoch != epoch) return;
  restoring = {};
  no_room = false;
  if (!m.outcome.ok()) return halt(m.outcome);
  place = PlaceState::Present;
  stats = m.stats;
  pump();
}

void SessionState::refused(const Refused& m) {
  if (m.epoch != epoch) return;
  no_room = true;
  if (answer && !answer->began_sent) refuse_answer();
}

void SessionState::refuse_answer() {
  fail_answer({Code::Overloaded,
               "every session in memory is at work and there is no room for another: try again "
               "later, or give the server a larger RAM budget",
               0});
  if (!wants_blocks()) leave();
}

void SessionState::progress(const EnterProgress& m) {
  if (m.epoch != epoch) return;
  restoring = m;
  no_room = false;
}

void SessionState::ran(const Ran& m) {
  if (m.epoch != epoch) return;
  worked = true;
  for (size_t i = 0; i < m.blocks; ++i) ran_tokens += log.blocks()[ran_blocks++];
  handed -= m.blocks;
  stats = m.stats;
  pump();
}

void SessionState::left(const Left& m) {
  if (m.epoch != epoch) return;
  forget_place();
  if (answer) {
    answer->row_runs = false;
    if (answer->stopping) end_answer(protocol::FinishReason::Cancelled);
  }
  if (m.why == Left::Why::EngineLost) {
    spdlog::warn("session '{}' lost the engine and enters the next one", entry.name);
  }
  if (m.why == Left::Why::GivenUp) {
    return halt({Code::Internal,
                 "the engine failed repeatedly on this session; what was acknowledged is stored, "
                 "see the server's log",
                 0});
  }
  pump();
}

void SessionState::forget_place() {
  place = PlaceState::None;
  ++epoch;
  handed = 0;
  worked = false;
  no_room = false;
  restoring = {};
}

void SessionState::leave() {
  if (place != PlaceState::None) self->send(scheduler, Leave{entry.id, epoch});
  forget_place();
}

// The engine cannot do this session's work: who waits for it is told, until the next call tries
// again.
void SessionState::halt(const Outcome& why) {
  spdlog::error("session '{}' halts: {}", entry.name, why.message);
  halted = true;
  leave();
  for (const auto& accepted : std::exchange(waiting, {})) accepted.fail(why);
  if (!answer) return;
  if (!answer->began_sent) return fail_answer(why);
  answer->failure = why;
  end_answer(protocol::FinishReason::Error);
}

}  // namespace ringtide::actors
