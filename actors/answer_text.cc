#include "actors/answer_text.h"

#include <algorithm>
#include <utility>

namespace ringtide::actors {
namespace {

// Length of the longest end of `text` that begins `stop` without being all of it.
size_t begins_at_end(const std::string& text, const std::string& stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.compare(text.size() - n, n, stop, 0, n) == 0) return n;
  }
  return 0;
}

}  // namespace

AnswerText::AnswerText(std::shared_ptr<const model::Tokenizer> tokenizer,
                       std::vector<std::string> stops, model::TextAt at)
    : detokenizer_(std::move(tokenizer), at), stops_(std::move(stops)) {}

std::string AnswerText::push(model::TokenId token) {
  if (stopped_) return "";
  held_ += detokenizer_.push(token);
  return release(false);
}

std::string AnswerText::finish() {
  if (stopped_) return "";
  held_ += detokenizer_.finish();
  return release(true);
}

std::string AnswerText::release(bool last) {
  size_t found = std::string::npos;
  size_t held = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, held_.find(stop));
    if (!last) held = std::max(held, begins_at_end(held_, stop));
  }
  stopped_ = found != std::string::npos;
  std::string sure = held_.substr(0, stopped_ ? found : held_.size() - held);
  held_.erase(0, stopped_ ? held_.size() : sure.size());
  return sure;
}

}  // namespace ringtide::actors
