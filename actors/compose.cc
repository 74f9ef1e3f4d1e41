#include "actors/compose.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ringtide::actors {
namespace {

constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;

void add(std::vector<int32_t>& to, const std::vector<model::TokenId>& tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

// Where the text stands that the next tokens are of. A template says it for each of its leads, of
// which the first depends on the system prompt.
model::TextAt text_at(const Writing& w, const TurnState& state) {
  if (state.inside_text) return model::TextAt::Inside;
  if (!w.chat) return state.answered ? model::TextAt::Inside : model::TextAt::Start;
  return state.answered ? w.chat->next_user().text : w.chat->begin(w.system).text;
}

// How many of the first tokens of `end` are the last of `written`.
size_t overlap(const std::vector<int32_t>& written, const std::vector<model::TokenId>& end) {
  for (size_t n = std::min(written.size(), end.size()); n > 0; --n) {
    if (std::equal(end.begin(), end.begin() + n, written.end() - n)) return n;
  }
  return 0;
}

}  // namespace

storage::Appended compose_append(const Writing& w, const TurnState& state, std::string text) {
  storage::Appended record;
  if (w.chat && !state.user_turn) {
    add(record.tokens, state.begun ? w.chat->next_user().tokens : w.chat->begin(w.system).tokens);
    record.opens_turn = 1;
  } else if (!w.chat && !state.begun && w.tokenizer.adds_bos()) {
    record.tokens.push_back(w.tokenizer.bos());
  }
  const model::Tokenizer::Stable stable =
      w.tokenizer.encode_stable(state.tail + text, text_at(w, state));
  add(record.tokens, stable.tokens);
  record.consumed = stable.bytes;
  record.text = std::move(text);
  return record;
}

storage::Began compose_began(const Writing& w, const TurnState& state,
                             const protocol::GenerateParams& params) {
  storage::Began record;
  record.tokens = w.tokenizer.encode(state.tail, text_at(w, state));
  if (w.chat) add(record.tokens, w.chat->answer());
  record.temperature = params.temperature;
  record.top_p = params.top_p;
  record.min_p = params.min_p;
  record.repetition_penalty = params.repetition_penalty;
  record.top_k = params.top_k;
  record.penalty_window = params.penalty_window;
  record.seed = params.seed;
  record.max_tokens = params.max_tokens;
  record.stop = params.stop;
  return record;
}

storage::Ended compose_ended(const Writing& w, const TurnState& state,
                             protocol::FinishReason reason) {
  storage::Ended record;
  record.reason = static_cast<uint8_t>(reason);
  if (w.chat) {
    const std::vector<model::TokenId>& end = w.chat->end();
    record.tokens.assign(end.begin() + overlap(state.answer_end, end), end.end());
  }
  return record;
}

std::string cannot_begin(const Writing& w, const TurnState& state) {
  if (w.chat) {
    return state.user_turn ? ""
                           : "there is nothing to answer: append something first, then generate";
  }
  return state.tokens > 0 || !state.tail.empty()
             ? ""
             : "the session is empty: append some text first, then generate";
}

std::string invalid(const protocol::GenerateParams& p) {
  if (p.max_tokens <= 0) return "max_tokens must be at least 1";
  if (!std::isfinite(p.temperature) || p.temperature < 0) {
    return "temperature must be 0 (greedy) or more";
  }
  if (!(p.top_p > 0 && p.top_p <= 1)) return "top_p must be above 0 and at most 1 (1 is off)";
  if (!(p.min_p >= 0 && p.min_p <= 1)) return "min_p must be between 0 and 1 (0 is off)";
  if (!std::isfinite(p.repetition_penalty) || p.repetition_penalty <= 0) {
    return "repetition_penalty must be above 0 (1 is off)";
  }
  if (p.top_k < 0) return "top_k must not be negative (0 is off)";
  if (p.penalty_window < 0) return "penalty_window must not be negative";
  if (p.stop.size() > kMaxStops) {
    return "at most " + std::to_string(kMaxStops) + " stop texts are allowed";
  }
  for (const std::string& stop : p.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return "a stop text must have 1 to " + std::to_string(kMaxStopBytes) + " bytes";
    }
  }
  return "";
}

model::SamplingParams sampling(const storage::Began& began) {
  return {.temperature = began.temperature,
          .top_k = began.top_k,
          .top_p = began.top_p,
          .min_p = began.min_p,
          .repetition_penalty = began.repetition_penalty,
          .penalty_window = began.penalty_window,
          .seed = began.seed};
}

}  // namespace ringtide::actors
