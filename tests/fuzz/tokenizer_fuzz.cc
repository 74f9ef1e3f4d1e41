// Any bytes under any tokenizer: no byte is lost, cutting does not matter, and what comes out of
// the detokenizer is valid UTF-8.
//
// Input: the first byte chooses the tokenizer, the second how the rest, the text, is cut. From 128
// on the first byte asks for a SentencePiece vocabulary that the input brings, too: its pieces are
// the lines up to a byte 0, and what follows is the text.
#include <algorithm>
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
  for (const char* pre : {"smollm", "llama-bpe", "qwen2", "gpt-2", "tekken"}) {
    tokenizers.push_back(vocabulary.make(pre));
  }
  ringtide::model::SpaceVocabulary spaces(ringtide::model::SpaceVocabulary::default_pieces(),
                                          {"<s>", "\n\n", "<b>"});
  spaces.tables.kinds[257] = spaces.tables.kinds[258] = 4;
  tokenizers.push_back(spaces.make());
  spaces.tables.space_prefix = ringtide::model::SpacePrefix::UnlessThere;
  tokenizers.push_back(spaces.make());
  return tokenizers;
}

// One of pieces that begin with a digit d has the score of d, and "*" makes it user defined. Null:
// refused.
std::shared_ptr<const Tokenizer> from_lines(std::string_view lines, bool prefix) {
  ringtide::model::SpaceVocabulary vocabulary({});
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    std::string_view piece = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    float score = 0;
    const bool matched = piece.starts_with('*');
    if (matched) piece.remove_prefix(1);
    if (!piece.empty() && piece[0] >= '0' && piece[0] <= '9') {
      score = static_cast<float>(piece[0] - '0');
      piece.remove_prefix(1);
    }
    vocabulary.tables.tokens.push_back(piece);
    vocabulary.tables.kinds.push_back(matched ? 4 : 1);
    vocabulary.tables.scores.push_back(score);
  }
  if (!prefix) vocabulary.tables.space_prefix = ringtide::model::SpacePrefix::Never;
  try {
    return vocabulary.make();
  } catch (const ringtide::model::ModelError&) {
    return nullptr;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizers = make_tokenizers();
  if (size < 2) return 0;
  auto tokenizer = tokenizers[data[0] % tokenizers.size()];
  std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (data[0] >= 128) {
    const size_t end = std::min(text.find('\0'), text.size());
    tokenizer = from_lines(text.substr(0, end), data[0] % 2 != 0);
    if (!tokenizer) return 0;
    text.remove_prefix(std::min(end + 1, text.size()));
  }

  const std::vector<TokenId> whole = tokenizer->encode(text);
  const bool always = data[0] >= 128 || data[0] % tokenizers.size() == 5;
  const bool space = tokenizer->space_prefix() && !text.empty() && (always || text[0] != ' ');
  const std::string expected = (space ? " " : "") + std::string(text);
  require(ringtide::model::spelled(*tokenizer, whole) == expected, "every byte survives");

  uint32_t cut = data[1];
  const ringtide::model::Fed fed = ringtide::model::feed(*tokenizer, text, [&] {
    cut = cut * 1664525u + 1013904223u;
    return 1 + (cut >> 16) % (data[1] % 2 == 0 ? 3 : 40);
  });
  require(fed.longest_tail < Tokenizer::kMaxTail, "the tail is bounded");
  require(fed.tokens == whole, "cutting does not matter");

  ringtide::model::Detokenizer detokenizer(tokenizer);
  std::string shown;
  for (const TokenId token : whole) shown += detokenizer.push(token);
  shown += detokenizer.finish();
  require(ringtide::model::utf8_valid_prefix(shown) == shown.size(), "what is shown is valid");
  return 0;
}
