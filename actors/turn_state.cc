#include "actors/turn_state.h"

#include <algorithm>

namespace ringtide::actors {
namespace {

constexpr size_t kAnswerEnd = 16;  // longer than what closes a turn in any template

struct Apply {
  TurnState& s;

  void operator()(const storage::Opened&) const {}

  void operator()(const storage::Appended& r) const {
    s.offset += r.text.size();
    s.tail += r.text;
    s.tail.erase(0, r.consumed);
    s.tokens += static_cast<int64_t>(r.tokens.size());
    s.begun = true;
    s.user_turn = s.user_turn || r.opens_turn != 0;
    s.inside_text = s.inside_text || r.consumed > 0;
  }

  void operator()(const storage::Began& r) const {
    s.tail.clear();
    s.tokens += static_cast<int64_t>(r.tokens.size());
    s.user_turn = false;
    s.inside_text = false;
    s.answered = true;
    s.answering = true;
    s.answer_tokens = 0;
    s.answer_end.clear();
  }

  void operator()(const storage::Generated& r) const {
    const auto count = static_cast<int64_t>(r.tokens.size());
    s.tokens += count;
    s.answer_tokens += count;
    s.answer_end.insert(s.answer_end.end(), r.tokens.begin(), r.tokens.end());
    if (s.answer_end.size() > kAnswerEnd) {
      s.answer_end.erase(s.answer_end.begin(), s.answer_end.end() - kAnswerEnd);
    }
  }

  void operator()(const storage::Ended& r) const {
    s.tokens += static_cast<int64_t>(r.tokens.size());
    s.answering = false;
  }
};

}  // namespace

void TurnState::apply(const storage::LogRecord& record) {
  ++records;
  std::visit(Apply{*this}, record);
}

}  // namespace ringtide::actors
