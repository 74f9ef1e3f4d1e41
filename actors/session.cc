#include "actors/session.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <utility>

namespace ringtide::actors {

using protocol::Code;
using protocol::Outcome;

namespace {

const Outcome kStopping{Code::Stopping,
                        "the server is going down; open the session again later, by name or id", 0};

Outcome busy() {
  return {Code::Busy, "the session is generating: wait until it has ended, or cancel it", 0};
}

void fail(const AppendCall& m, const Outcome& why) {
  m.accepted.fail(why);
  m.durable.fail(why);
}

}  // namespace

void SessionState::append(AppendCall& m) {
  if (retiring) return fail(m, kStopping);
  if (loading) return queued.push_back(std::move(m)), void();
  if (answer) return fail(m, busy());
  if (m.offset && *m.offset != ahead.offset) {
    return fail(m, {Code::OffsetMismatch,
                    "the session holds " + std::to_string(ahead.offset) +
                        " bytes of text: continue from there",
                    ahead.offset});
  }
  if (m.text.empty()) return fail(m, {Code::Invalid, "there is no text to append", 0});
  halted = false;
  end_orphan();
  backlog.add(m.text.size());
  write(compose_append(writing(), ahead, std::move(m.text)), m.durable);
  waiting.push_back(m.accepted);
  release_accepted();
}

void SessionState::generate(GenerateCall& m) {
  if (retiring) return m.done.fail(kStopping);
  if (loading) return queued.push_back(std::move(m)), void();
  if (answer) return m.done.fail(busy());
  if (auto wrong = invalid(m.params); !wrong.empty()) return m.done.fail({Code::Invalid, wrong, 0});
  halted = false;
  end_orphan();
  if (auto wrong = cannot_begin(writing(), ahead); !wrong.empty()) {
    return m.done.fail({Code::Invalid, wrong, 0});
  }
  answer = Generation();
  answer->call = std::move(m);
  answer->row = ++rows;
  pump();
}

void SessionState::cancel(const CancelCall& m) {
  m.stop->store(true);
  if (answer && answer->call.stop == m.stop) return stop_answer();
  for (auto it = queued.begin(); it != queued.end(); ++it) {
    const auto* call = std::get_if<GenerateCall>(&*it);
    if (!call || call->stop != m.stop) continue;
    call->done({}, {.reason = protocol::FinishReason::Cancelled});
    queued.erase(it);
    return;
  }
}

void SessionState::state(const StateCall& m) {
  if (loading) {
    queued.push_back(m);
    if (incarnation == 0) load();  // the first call of all: whoever opens it hears how that went
    return;
  }
  protocol::SessionInfo info;
  info.name = entry.name;
  info.id = entry.id;
  info.created_ms = entry.created_ms;
  const bool working = place == PlaceState::Present && wants_blocks();
  info.state = place == PlaceState::Asked && ran_tokens > 0 ? "restoring"
               : answer                                     ? "generating"
               : working || place == PlaceState::Asked      ? "ingesting"
                                                            : "idle";
  info.policy = model::to_string(log.policy().kind);
  info.template_family = log.opening().template_family;
  info.tokens = static_cast<int64_t>(log.tokens().size());
  info.processed = ran_tokens;
  info.appended_bytes = log.state().offset;
  info.units = stats.units;
  const bool present = place == PlaceState::Present;
  info.bytes_gpu = present ? stats.gpu_bytes : 0;
  info.bytes_ram = present ? stats.window_bytes + stats.index_bytes + stats.host_bytes : 0;
  info.units_selected = stats.units_selected;
  info.reads_ram = stats.reads_ram;
  info.reads_store = stats.reads_store;
  info.units_recomputed = stats.units_recomputed;
  info.run_again = stats.tokens_rerun;
  info.to_restore = restoring.total;
  info.restored = restoring.done;
  m.reply({}, std::move(info));
}

void SessionState::detached() {
  if (answer) stop_answer();
}

caf::result<Retired> SessionState::retire(const Retire& m) {
  const bool idle = !loading && writes.empty() && !wants_blocks();
  if (m.why != Retire::Why::Shutdown) {
    if (answer || (m.why == Retire::Why::Room && !idle)) return Retired{false};
    quit({Code::NotFound, "the session was removed", 0});
    return Retired{true};
  }
  retiring = self->make_response_promise<Retired>();
  for (const auto& accepted : std::exchange(waiting, {})) accepted.fail(kStopping);
  if (answer) {
    answer->failure = kStopping;
    stop_answer();
  }
  settle_retirement();
  return *retiring;
}

// Going down: ends when nothing is under way.
void SessionState::settle_retirement() {
  if (!retiring || answer || !writes.empty()) return;
  retiring->deliver(Retired{true});
  quit(kStopping);
}

SessionActor::behavior_type session(SessionActor::stateful_pointer<SessionState> self,
                                    FactsPtr facts, storage::SessionEntry entry,
                                    ArchiveActor archive, SchedulerActor scheduler) {
  SessionState* state = &self->state;
  state->facts = std::move(facts);
  state->entry = std::move(entry);
  state->archive = std::move(archive);
  state->scheduler = std::move(scheduler);
  self->monitor(state->archive);
  self->monitor(state->scheduler);
  self->set_down_handler([state](caf::down_msg&) {
    state->quit({Code::Internal, "part of the server failed; open the session again", 0});
  });
  return {
      [state](AppendCall& m) { state->append(m); },
      [state](GenerateCall& m) { state->generate(m); },
      [state](const CancelCall& m) { state->cancel(m); },
      [state](const Taken& m) { state->taken(m); },
      [state](const StateCall& m) { state->state(m); },
      [state](const Detached&) { state->detached(); },
      [state](const Retire& m) { return state->retire(m); },
      [state](Loaded& m) { state->loaded(m); },
      [state](Written& m) { state->written(m); },
      [state](const Entered& m) { state->entered(m); },
      [state](const Refused& m) { state->refused(m); },
      [state](const EnterProgress& m) { state->progress(m); },
      [state](const Ran& m) { state->ran(m); },
      [state](const Stepped& m) { state->stepped(m); },
      [state](const RowStopped& m) { state->row_stopped(m); },
      [state](const Left& m) { state->left(m); },
  };
}

}  // namespace ringtide::actors
