// The tables a model file has for its tokenizer, and the tokenizer made of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/types.h"

namespace ringtide::model {

// As `tokenizer.ggml.token_type` numbers them.
enum class TokenKind : int32_t {
  Normal = 1,  // spelled in the byte alphabet
  Unknown = 2,
  Control = 3,      // an order; no text
  UserDefined = 4,  // stands for its own name
  Unused = 5,
  Byte = 6,  // named "<0x0A>"
};

// When a space goes before a text at a Start.
enum class SpacePrefix { Never, Always, UnlessThere };

// Not checked yet. The views are into the file.
struct TokenizerTables {
  std::string_view model = "gpt2";  // byte-level BPE; "llama": SentencePiece's BPE
  std::string_view pre = "default";
  std::vector<std::string_view> tokens;  // by id
  std::vector<int32_t> kinds;            // by id; empty: all are normal
  std::vector<std::string_view> merges;  // by rank, "left right"
  std::vector<float> scores;             // by id, instead of merges: the highest is merged first
  SpacePrefix space_prefix = SpacePrefix::Never;
  // Byte-level: a piece that is a token is that token, whatever the merges would make of it. Unset:
  // as the pre-tokenizer's models have it.
  std::optional<bool> whole_tokens_first;
  TokenId bos = -1, eos = -1;  // -1: none
  std::vector<TokenId> ends;   // others that end generation
  bool adds_bos = false;
};

TokenizerTables read_tokenizer_tables(const GgufFile& file);

// Throws ModelError that names the table, as in Tokenizer::from_gguf. Copies what it keeps.
std::shared_ptr<const Tokenizer> make_tokenizer(const TokenizerTables& tables);

}  // namespace ringtide::model
