// The session's answer under way: tokens come from the worker, go to the log, then to the client.
#include <caf/all.hpp>
#include <utility>

#include "actors/session.h"

namespace ringtide::actors {

using protocol::FinishReason;
using std::chrono::duration;
using std::chrono::steady_clock;

namespace {

// Tokens that may be on their way to the client before generation pauses, and when it goes on
// again; the same for those on their way to the disk, which is slower than a model only when it
// stalls.
constexpr int64_t kReaderPause = 32, kReaderResume = 16;
constexpr int64_t kDiskPause = 256, kDiskResume = 128;

}  // namespace

// The prompt is durable: it can run, and tokens can follow.
void SessionState::began() {
  answer->began = true;
  answer->text.emplace(facts->tokenizer, log.began().stop, answer_at());
  answer->result.prompt_tokens = static_cast<int64_t>(log.tokens().size()) - ran_tokens;
  answer->before = stats;
  if (answer->finish) return write_generated();
  if (*answer->call.stop) stop_answer();
}

// The answer of a turn begins a text; without turns, what is generated goes on with one.
model::TextAt SessionState::answer_at() const {
  return chat ? model::TextAt::Start : model::TextAt::Inside;
}

bool SessionState::wants_row() const {
  return answer && answer->began && !answer->finish && !answer->row_runs &&
         answer->pause == Batching::Pause::No && answer->undurable == 0;
}

// From the start, or from where an earlier place in the engine was lost.
void SessionState::start_row() {
  const auto& tokens = log.tokens();
  const auto answered = log.state().answer_tokens;
  StartRow row{.id = entry.id,
               .epoch = epoch,
               .row = answer->row,
               .pending = {},
               .answered = {tokens.end() - answered, tokens.end()},
               .began = std::make_shared<storage::Began>(log.began()),
               .text = answer_at(),
               .stop = answer->call.stop};
  if (ran_tokens < static_cast<int64_t>(tokens.size())) row.pending = tokens.back();
  answer->row_runs = true;
  self->send(scheduler, std::move(row));
}

void SessionState::stepped(const Stepped& m) {
  if (m.epoch != epoch || !answer || m.row != answer->row || answer->finish) return;
  worked = true;
  if (m.ran) {
    ++ran_tokens;
    ++ran_blocks;
  }
  stats = m.stats;
  answer->last = steady_clock::now();
  if (answer->result.generated_tokens++ == 0) answer->first = answer->last;
  answer->fresh.push_back(m.token);
  if (m.finish) {
    answer->row_runs = false;
    answer->finish = m.finish;
  }
  ++answer->undurable;
  write_generated();
  balance();
}

void SessionState::write_generated() {
  if (answer->writing || answer->end_sent) return;
  if (!answer->fresh.empty()) {
    answer->writing = true;
    return write(storage::Generated{std::exchange(answer->fresh, {})});
  }
  if (!answer->finish || !answer->began) return;
  answer->end_sent = true;
  write(compose_ended(writing(), ahead, *answer->finish));
}

// -- showing ----

// Tokens are durable.
void SessionState::show(const std::vector<int32_t>& tokens) {
  answer->writing = false;
  answer->undurable -= static_cast<int64_t>(tokens.size());
  std::string text;
  for (const int32_t token : tokens) {
    if (facts->tokenizer->ends_generation(token)) continue;
    answer->unshown.push_back(token);
    text += answer->text->push(token);
  }
  push(std::move(text));
  write_generated();
  balance();
}

void SessionState::push(std::string text, bool last) {
  if (text.empty() && !(last && !answer->unshown.empty())) return;
  protocol::TextChunk chunk{std::move(text), std::exchange(answer->unshown, {})};
  const auto count = static_cast<int64_t>(chunk.tokens.size());
  answer->outstanding += count;
  const SessionActor me = self;
  answer->call.sink->push(std::move(chunk), [me, row = answer->row, count](bool alive) {
    caf::anon_send(me, Taken{row, count, alive});
  });
}

void SessionState::taken(const Taken& m) {
  if (!answer || m.row != answer->row) return;
  if (!m.alive) return stop_answer();
  answer->outstanding -= m.tokens;
  balance();
  pump();
}

// Pauses generation, or lets it go on.
void SessionState::balance() {
  using Pause = Batching::Pause;
  const bool paused = answer->pause != Pause::No;
  const bool reader = answer->outstanding > (paused ? kReaderResume : kReaderPause);
  const bool disk = answer->undurable > (paused ? kDiskResume : kDiskPause);
  const Pause pause = reader ? Pause::Long : disk ? Pause::Brief : Pause::No;
  if (pause == answer->pause) return;
  answer->pause = pause;
  self->send(scheduler, PauseRow{entry.id, epoch, pause});
}

// -- ending ----

// Cancelled, by whatever way: at the next step.
void SessionState::stop_answer() {
  answer->call.stop->store(true);
  if (answer->finish || answer->stopping) return;
  if (!answer->began_sent) {
    answer->result.reason = FinishReason::Cancelled;
    answer->call.done(answer->failure, answer->result);
    answer.reset();
    return pump();
  }
  if (!answer->began) return;
  if (!answer->row_runs) return end_answer(FinishReason::Cancelled);
  answer->stopping = true;
  self->send(scheduler, StopRow{entry.id, epoch, answer->row});
}

void SessionState::row_stopped(const RowStopped& m) {
  if (m.epoch != epoch || !answer || m.row != answer->row) return;
  if (answer->stopping) end_answer(FinishReason::Cancelled);
}

void SessionState::end_answer(FinishReason reason) {
  answer->row_runs = false;
  answer->stopping = false;
  if (!answer->finish) answer->finish = reason;
  write_generated();
}

// The end is durable.
void SessionState::finish_answer() {
  push(answer->text->finish(), true);
  Generation ended = std::move(*answer);
  answer.reset();
  auto& r = ended.result;
  r.reason = *ended.finish;
  if (r.generated_tokens > 0) {
    r.seconds_to_first = duration<double>(ended.first - ended.call.called).count();
    r.seconds = duration<double>(ended.last - ended.first).count();
  }
  r.units_selected = std::max<int64_t>(0, stats.units_selected - ended.before.units_selected);
  r.reads_ram = std::max<int64_t>(0, stats.reads_ram - ended.before.reads_ram);
  r.reads_store = std::max<int64_t>(0, stats.reads_store - ended.before.reads_store);
  ended.call.done(ended.failure, std::move(r));
}

// Without an end in the log: it cannot be written.
void SessionState::fail_answer(const protocol::Outcome& why) {
  answer->call.stop->store(true);
  answer->call.done.fail(why);
  answer.reset();
}

}  // namespace ringtide::actors
