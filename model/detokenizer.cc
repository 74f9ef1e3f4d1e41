#include <utility>

#include "model/tokenizer.h"
#include "model/utf8.h"

namespace ringtide::model {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, TextAt at)
    : tokenizer_(std::move(tokenizer)),
      space_prefix_(at == TextAt::Start && tokenizer_->space_prefix()) {}

std::string Detokenizer::push(TokenId token) {
  std::string_view bytes = tokenizer_->bytes(token);
  if (!bytes.empty() && std::exchange(space_prefix_, false) && bytes[0] == ' ') {
    bytes.remove_prefix(1);
  }
  held_ += bytes;
  std::string out;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const size_t valid = utf8_valid_prefix(rest);
    out += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8::Incomplete) break;
    out += kReplacement;
    rest.remove_prefix(step.length);
  }
  held_.erase(0, held_.size() - rest.size());
  return out;
}

std::string Detokenizer::finish() {
  // What is held is the beginning of one character.
  const bool cut = !std::exchange(held_, {}).empty();
  return std::string(cut ? kReplacement : "");
}

}  // namespace ringtide::model
