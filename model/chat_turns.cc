#include "model/chat_turns.h"

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace ringtide::model {
namespace {

// Texts that no template changes, holds or looks for.
constexpr std::string_view kSystem = "q7zSystem0q7z";
constexpr std::string_view kUsers[] = {"q7zUser0q7z", "q7zUser1q7z", "q7zUser2q7z"};
constexpr std::string_view kAnswers[] = {"q7zAnswer0q7z", "q7zAnswer1q7z"};

using Texts = std::vector<std::string_view>;

class Probe {
 public:
  Probe(const jinja::Template& chat, const Tokenizer& tokenizer, std::time_t now)
      : chat_(chat), tokenizer_(tokenizer), now_(now) {}

  // What is written around the texts of a conversation, one more than there are of them; nothing
  // where they are not there once each, in order.
  std::optional<std::vector<std::string>> around(const Texts& texts, bool answer_follows) const {
    std::vector<jinja::Value> messages;
    for (const std::string_view text : texts) {
      const char* role = text == kSystem               ? "system"
                         : text.starts_with("q7zUser") ? "user"
                                                       : "assistant";
      messages.push_back(jinja::Value::dict({{"role", role}, {"content", text}}));
    }
    const std::string written = chat_.render({{"messages", jinja::Value::list(std::move(messages))},
                                              {"add_generation_prompt", answer_follows},
                                              {"tools", jinja::None{}},
                                              {"documents", jinja::None{}},
                                              {"bos_token", tokenizer_.name(tokenizer_.bos())},
                                              {"eos_token", tokenizer_.name(tokenizer_.eos())}},
                                             now_);
    std::vector<std::string> parts;
    std::string_view rest = written;
    for (const std::string_view text : texts) {
      const size_t at = rest.find(text);
      if (at == std::string_view::npos) return std::nullopt;
      parts.emplace_back(rest.substr(0, at));
      rest.remove_prefix(at + text.size());
    }
    parts.emplace_back(rest);
    for (const std::string& part : parts) {
      if (part.find("q7z") != std::string::npos) return std::nullopt;
    }
    return parts;
  }

 private:
  const jinja::Template& chat_;
  const Tokenizer& tokenizer_;
  const std::time_t now_;
};

// Where the first token that ends a generation ends; 0: there is none.
size_t end_marker(std::string_view text, const Tokenizer& tokenizer) {
  for (size_t at = 0; at < text.size(); ++at) {
    const TokenId token = tokenizer.special_at(text.substr(at));
    if (token >= 0 && tokenizer.ends_generation(token)) return at + tokenizer.name(token).size();
  }
  return 0;
}

void find_end(const Probe& probe, const Tokenizer& tokenizer, const std::string& between,
              ChatTurns& turns) {
  size_t end = end_marker(between, tokenizer);
  try {
    const auto closed = probe.around({kUsers[0], kAnswers[0]}, false);
    if (closed && between.starts_with(closed->back())) end = closed->back().size();
  } catch (const jinja::Error&) {
    // A template may insist on a question at the end.
  }
  turns.end = between.substr(0, end);
  turns.next_user = between.substr(end);
}

void find_system(const Probe& probe, const std::vector<std::string>& plain, ChatTurns& turns) {
  std::optional<std::vector<std::string>> once, later;
  try {
    once = probe.around({kSystem, kUsers[0]}, true);
    later = probe.around({kSystem, kUsers[0], kAnswers[0], kUsers[1]}, true);
  } catch (const jinja::Refusal& refusal) {
    turns.no_system = std::string("it says: ") + refusal.what();
    return;
  }
  if (!once || once->back() != turns.answer) {
    turns.no_system = "it does not write it before the first text";
    return;
  }
  turns.before_system = (*once)[0];
  turns.after_system = (*once)[1];
  const std::vector<std::string> expected = {turns.before_system, turns.after_system, plain[1],
                                             plain[2], turns.answer};
  if (later != expected) {
    turns.no_system = "it does not leave it where it is as the conversation goes on";
    return;
  }
  const std::string &before = turns.before_system, &after = turns.after_system;
  if (turns.begin.size() >= before.size() + after.size() && turns.begin.starts_with(before) &&
      turns.begin.ends_with(after)) {
    turns.default_system =
        turns.begin.substr(before.size(), turns.begin.size() - before.size() - after.size());
    turns.begin = before + after;
  }
}

}  // namespace

ChatTurns find_turns(const jinja::Template& chat, const Tokenizer& tokenizer, std::time_t now) {
  const Probe probe(chat, tokenizer, now);
  const auto first = probe.around({kUsers[0]}, true);
  const auto second = probe.around({kUsers[0], kAnswers[0], kUsers[1]}, true);
  const auto third =
      probe.around({kUsers[0], kAnswers[0], kUsers[1], kAnswers[1], kUsers[2]}, true);
  if (!first || !second || !third) {
    throw ModelError("it does not write each text once, in order");
  }
  const std::string &begin = (*first)[0], &answer = (*first)[1];
  const std::string &invited = (*second)[1], &between = (*second)[2];
  if (*second != std::vector<std::string>{begin, invited, between, answer} ||
      *third != std::vector<std::string>{begin, invited, between, invited, between, answer}) {
    throw ModelError("what it writes between two texts depends on what follows them");
  }
  ChatTurns turns;
  turns.begin = begin;
  turns.answer = answer;
  find_end(probe, tokenizer, between, turns);
  find_system(probe, *second, turns);
  return turns;
}

}  // namespace ringtide::model
