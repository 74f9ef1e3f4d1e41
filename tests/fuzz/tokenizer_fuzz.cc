// Any bytes under any pre-tokenizer: no byte is lost, cutting does not matter, and what comes out of
// the detokenizer is valid UTF-8.
//
// Input: the first byte chooses the pre-tokenizer, the second how the rest, the text, is cut.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/utf8.h"
#include "tests/model/text_fixture.h"

namespace {

using ringtide::model::SmallVocabulary;
using ringtide::model::TokenId;
using ringtide::model::Tokenizer;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

std::vector<std::shared_ptr<const Tokenizer>> make_tokenizers() {
  SmallVocabulary vocabulary;
  std::vector<std::shared_ptr<const Tokenizer>> tokenizers;
  for (const char* pre : {"smollm", "llama-bpe", "qwen2", "gpt-2"}) {
    tokenizers.push_back(vocabulary.make(pre));
  }
  return tokenizers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizers = make_tokenizers();
  if (size < 2) return 0;
  const auto& tokenizer = tokenizers[data[0] % tokenizers.size()];
  uint32_t cut = data[1];
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);

  const std::vector<TokenId> whole = tokenizer->encode(text);
  require(ringtide::model::spelled(*tokenizer, whole) == text, "every byte survives");

  std::vector<TokenId> tokens;
  std::string tail;
  for (size_t at = 0; at < text.size();) {
    cut = cut * 1664525u + 1013904223u;
    const size_t take = 1 + (cut >> 16) % (data[1] % 2 == 0 ? 3 : 40);
    tail += text.substr(at, take);
    at += take;
    const Tokenizer::Stable stable = tokenizer->encode_stable(tail);
    require(stable.bytes <= tail.size(), "what is certain is within the text");
    tokens.insert(tokens.end(), stable.tokens.begin(), stable.tokens.end());
    tail.erase(0, stable.bytes);
    require(tail.size() < Tokenizer::kMaxTail, "the tail is bounded");
  }
  const std::vector<TokenId> rest = tokenizer->encode(tail);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  require(tokens == whole, "cutting does not matter");

  ringtide::model::Detokenizer detokenizer(tokenizer);
  std::string shown;
  for (const TokenId token : whole) shown += detokenizer.push(token);
  shown += detokenizer.finish();
  require(ringtide::model::utf8_valid_prefix(shown) == shown.size(), "what is shown is valid");
  return 0;
}
