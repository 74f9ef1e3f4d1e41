// Vocabularies for the tests of text: a small one made here, and the default model's.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "model/byte_alphabet.h"
#include "model/gguf.h"
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

// The file named by RINGTIDE_TEST_MODEL, or the cached default model; nothing where neither is
// there.
std::optional<std::string> test_model_path();

// Bytes from an alphabet that pre-tokenizers find hard: runs of spaces and newlines, contractions,
// digits, combining marks, scripts without spaces, emoji, broken UTF-8, names of special tokens.
std::string nasty_text(std::mt19937_64& random, size_t parts);

// What the tokens spell, special ones by their names.
std::string spelled(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens);

}  // namespace ringtide::model
