#include "tests/support/fake_tokenizer.h"

#include <array>

namespace ringtide::testing {
namespace {

constexpr std::array<std::string_view, 3> kNames{"<|bos|>", "<|im_start|>", "<|im_end|>"};

void encode_word(std::string_view word, std::vector<model::TokenId>& out) {
  size_t i = 0;
  for (; i + 1 < word.size(); i += 2) out.push_back(FakeTokenizer::pair(word[i], word[i + 1]));
  if (i < word.size()) out.push_back(static_cast<unsigned char>(word[i]));
}

}  // namespace

FakeTokenizer::FakeTokenizer() : bytes_(size()) {
  for (int a = 0; a < 256; ++a) {
    bytes_[a] = std::string(1, static_cast<char>(a));
    for (int b = 0; b < 256; ++b) {
      bytes_[pair(a, b)] = {static_cast<char>(a), static_cast<char>(b)};
    }
  }
}

std::vector<model::TokenId> FakeTokenizer::encode(std::string_view text, model::TextAt) const {
  std::vector<model::TokenId> tokens;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' ', text.find_first_not_of(' ')), text.size());
    encode_word(text.substr(0, end), tokens);
    text.remove_prefix(end);
  }
  return tokens;
}

model::Tokenizer::Stable FakeTokenizer::encode_stable(std::string_view text, model::TextAt) const {
  // Of a run of spaces any may begin the next word: only what is before the run is sure.
  size_t sure = text.rfind(' ');
  while (sure != std::string_view::npos && sure > 0 && text[sure - 1] == ' ') --sure;
  if (sure == std::string_view::npos) return {};
  return {encode(text.substr(0, sure)), sure};
}

std::string_view FakeTokenizer::bytes(model::TokenId token) const {
  return token >= 0 && token < size() ? std::string_view(bytes_[token]) : std::string_view();
}

std::string_view FakeTokenizer::name(model::TokenId token) const {
  return token >= kBos && token <= kTurnEnd ? kNames[token - kBos] : std::string_view();
}

model::TokenId FakeTokenizer::special(std::string_view name) const {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return kBos + static_cast<model::TokenId>(i);
  }
  return -1;
}

model::TokenId FakeTokenizer::special_at(std::string_view text) const {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (text.starts_with(kNames[i])) return kBos + static_cast<model::TokenId>(i);
  }
  return -1;
}

}  // namespace ringtide::testing
