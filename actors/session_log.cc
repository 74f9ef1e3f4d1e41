#include "actors/session_log.h"

#include <utility>

namespace ringtide::actors {

using storage::Appended;
using storage::Began;
using storage::Ended;
using storage::Generated;
using storage::LogRecord;
using storage::Opened;

model::PolicyConfig to_config(const storage::PolicyRecord& r) {
  return {.kind = static_cast<model::PolicyKind>(r.kind),
          .window = r.window,
          .sinks = r.sinks,
          .unit = r.unit,
          .block = r.block,
          .select = r.select,
          .representatives = r.representatives,
          .vote = static_cast<model::HeadVote>(r.vote),
          .probe = r.probe,
          .true_positions = r.true_positions != 0};
}

storage::PolicyRecord to_record(const model::PolicyConfig& c) {
  return {.kind = static_cast<uint8_t>(c.kind),
          .vote = static_cast<uint8_t>(c.vote),
          .true_positions = static_cast<uint8_t>(c.true_positions),
          .window = c.window,
          .sinks = c.sinks,
          .unit = c.unit,
          .block = c.block,
          .select = c.select,
          .representatives = c.representatives,
          .probe = c.probe};
}

namespace {

std::string misplaced(const LogRecord& record, bool opened, const TurnState& state) {
  if (const auto* r = std::get_if<Opened>(&record)) {
    if (opened) return "a second opening";
    return r->policy.block > 0 ? "" : "an opening whose block length is not positive";
  }
  if (!opened) return "a record before the opening";
  if (const auto* r = std::get_if<Appended>(&record)) {
    if (state.answering) return "text inside a generation";
    return r->consumed <= state.tail.size() + r->text.size()
               ? ""
               : "an append that consumes more text than there is";
  }
  if (std::holds_alternative<Began>(record)) {
    return state.answering ? "a generation inside another" : "";
  }
  return state.answering ? "" : "a generated token or an end outside a generation";
}

}  // namespace

std::string SessionLog::apply(LogRecord record) {
  if (std::string wrong = misplaced(record, opened(), state_); !wrong.empty()) return wrong;
  state_.apply(record);
  if (auto* r = std::get_if<Opened>(&record)) {
    plan_.emplace(r->policy.block);
    opening_ = std::move(*r);
  } else if (auto* r = std::get_if<Appended>(&record)) {
    extend(r->tokens);
  } else if (auto* r = std::get_if<Began>(&record)) {
    extend(r->tokens);
    plan_->begin_generation();
    began_ = std::move(*r);
  } else if (auto* r = std::get_if<Generated>(&record)) {
    tokens_.insert(tokens_.end(), r->tokens.begin(), r->tokens.end());
    for (size_t i = 0; i < r->tokens.size(); ++i) plan_->token();
  } else if (auto* r = std::get_if<Ended>(&record)) {
    extend(r->tokens);
  }
  return "";
}

void SessionLog::extend(const std::vector<int32_t>& tokens) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  plan_->append(static_cast<int64_t>(tokens.size()));
}

}  // namespace ringtide::actors
