// What the tests of text share: a small vocabulary, and texts that are hard to split.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "model/byte_alphabet.h"
#include "model/tokenizer.h"
#include "model/tokenizer_tables.h"

namespace ringtide::model {

// 256 bytes in order, then what the merges make, in order, then special ones. Owns the texts that
// the tables look at.
struct SmallVocabulary {
  // Merges are "left right", in the byte alphabet; the special names become control tokens.
  explicit SmallVocabulary(std::vector<std::string> merges = default_merges(),
                           std::vector<std::string> special = {"<|im_start|>", "<|im_end|>"});
  SmallVocabulary(const SmallVocabulary&) = delete;
  SmallVocabulary& operator=(const SmallVocabulary&) = delete;

  static std::vector<std::string> default_merges();
  std::shared_ptr<const Tokenizer> make(std::string_view pre = "default");

  std::vector<std::string> tokens;
  std::vector<std::string> merges;
  TokenizerTables tables;
};

// As SmallVocabulary for SentencePiece: 256 bytes, the special ones, then the pieces (U+2581 is a
// space), the first with the highest score, then the characters they are made of.
struct SpaceVocabulary {
  explicit SpaceVocabulary(std::vector<std::string> pieces,
                           std::vector<std::string> special = {"<s>", "</s>"});
  SpaceVocabulary(const SpaceVocabulary&) = delete;
  SpaceVocabulary& operator=(const SpaceVocabulary&) = delete;

  static std::vector<std::string> default_pieces();
  std::shared_ptr<const Tokenizer> make() { return make_tokenizer(tables); }

  std::vector<std::string> tokens;
  TokenizerTables tables;
};

// Bytes from an alphabet that pre-tokenizers find hard: runs of spaces and newlines, contractions,
// digits, combining marks, scripts without spaces, emoji, broken UTF-8, names of special tokens.
std::string nasty_text(std::mt19937_64& random, size_t parts);

// What the tokens spell, special ones by their names.
std::string spelled(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens);

// Tokens of a text that arrives in chunks of `next_cut` bytes, as a session has them.
struct Fed {
  std::vector<TokenId> tokens;
  size_t longest_tail = 0;
};
Fed feed(const Tokenizer& tokenizer, std::string_view text,
         const std::function<size_t()>& next_cut);

}  // namespace ringtide::model
