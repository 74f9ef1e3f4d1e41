// The session and its log: what is under way, what is durable, what to do when it cannot be.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <utility>

#include "actors/session.h"
#include "actors/summary.h"

namespace ringtide::actors {

using protocol::Code;
using protocol::Outcome;

Writing SessionState::writing() const {
  return {*facts->tokenizer, chat.get(), log.opening().system};
}

// -- loading ----

void SessionState::load() {
  loading = true;
  self->send(archive, Load{self, ++incarnation, entry.id});
}

void SessionState::loaded(Loaded& m) {
  if (m.incarnation != incarnation) return;
  if (!m.status.ok()) {
    spdlog::error("session '{}' does not open: {}", entry.name, m.status.message());
    return quit(to_outcome(m.status));
  }
  log = std::move(*m.log);
  if (log.opening().model != facts->fingerprint) {
    return quit({Code::ModelMismatch,
                 "session '" + entry.name + "' was made with model " + log.opening().model +
                     ", this server runs " + facts->fingerprint + " (" + facts->model +
                     "): serve that model, or use another session",
                 0});
  }
  try {
    chat = model::ChatTemplate::make(log.opening().template_family, facts->chat_template,
                                     facts->tokenizer);
  } catch (const model::ModelError& error) {
    return quit({Code::Invalid, error.what(), 0});
  }
  ahead = log.state();
  ran_blocks = log.blocks().size();
  ran_tokens = log.runnable();
  loading = false;
  for (Queued& call : std::exchange(queued, {})) {
    if (auto* append_call = std::get_if<AppendCall>(&call)) {
      append(*append_call);
    } else if (auto* generate_call = std::get_if<GenerateCall>(&call)) {
      generate(*generate_call);
    } else {
      state(std::get<StateCall>(call));
    }
  }
  pump();
}

// A generation that a crash cut off: its tokens stand, its turn is closed before anything follows.
void SessionState::end_orphan() {
  if (!ahead.answering) return;
  write(compose_ended(writing(), ahead, protocol::FinishReason::Error));
}

// -- writing ----

void SessionState::write(storage::LogRecord record, Answer<uint64_t> durable) {
  const uint64_t sequence = ahead.records;
  ahead.apply(record);
  writes.push_back(std::move(durable));
  self->send(archive, Write{self, incarnation, {entry.id, sequence, std::move(record)}});
}

void SessionState::written(Written& m) {
  if (m.incarnation != incarnation || loading) return;
  if (!m.status.ok()) return write_failed(m.status);
  const Answer<uint64_t> durable = std::move(writes.front());
  writes.pop_front();
  std::vector<int32_t> generated;
  if (const auto* record = std::get_if<storage::Generated>(&m.record)) generated = record->tokens;
  const size_t kind = m.record.index();
  if (const std::string wrong = log.apply(std::move(m.record)); !wrong.empty()) {
    spdlog::critical("session '{}' wrote {}", entry.name, wrong);
    return quit({Code::Internal, "the session wrote " + wrong + "; it cannot go on", 0});
  }
  switch (kind) {
    case 1:  // Appended
      backlog.durable(log.state().tokens);
      durable({}, log.state().offset);
      break;
    case 2:  // Began
      if (answer) began();
      break;
    case 3:  // Generated
      if (answer) show(generated);
      break;
    case 4:  // Ended; of this answer, or of one that a crash cut off
      if (answer && answer->end_sent) finish_answer();
      break;
  }
  pump();
  settle_retirement();
}

void SessionState::write_failed(const storage::Status& status) {
  Outcome why = to_outcome(status);
  if (why.code != Code::StorageFull) why.code = Code::Storage;
  spdlog::error("session '{}' could not write and reads its log again: {}", entry.name, why.message);
  for (const auto& durable : std::exchange(writes, {})) durable.fail(why);
  for (const auto& accepted : std::exchange(waiting, {})) accepted.fail(why);
  backlog.clear();
  if (answer) fail_answer(why);
  leave();
  if (retiring) return settle_retirement();
  load();
}

void SessionState::release_accepted() {
  if (backlog.bytes() > facts->max_queued_bytes) return;
  for (const auto& accepted : std::exchange(waiting, {})) accepted({});
}

void SessionState::quit(const Outcome& why) {
  for (const Queued& call : std::exchange(queued, {})) {
    if (const auto* append_call = std::get_if<AppendCall>(&call)) {
      append_call->accepted.fail(why);
      append_call->durable.fail(why);
    } else if (const auto* generate_call = std::get_if<GenerateCall>(&call)) {
      generate_call->done.fail(why);
    } else {
      std::get<StateCall>(call).reply.fail(why);
    }
  }
  for (const auto& durable : std::exchange(writes, {})) durable.fail(why);
  for (const auto& accepted : std::exchange(waiting, {})) accepted.fail(why);
  if (answer) fail_answer(why);
  leave();
  self->quit();
}

}  // namespace ringtide::actors
