// The tables of a tokenizer from the files of a Hugging Face folder.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "model/json_file.h"
#include "model/tokenizer_tables.h"

namespace ringtide::model {

struct HfTokenizer {
  TokenizerTables tables;  // points into `strings`
  std::deque<std::string> strings;
};

// tokenizer.json, and of tokenizer_config.json and generation_config.json, where they are there,
// which tokens begin and end a text. `vocabulary` is the number of the embedding's rows: ids
// without a token become unused ones.
//
// Byte-level BPE, and BPE with byte fallback (Llama 2, Mistral, Gemma). Splitting, normalising and
// adding of special tokens are recognised by the way they are written; a tokenizer that is written
// otherwise is refused, naming the field. Text keeps its bytes: NFC is not applied. Throws
// ModelError.
HfTokenizer read_hf_tokenizer(const JsonObject& tokenizer, const std::optional<JsonObject>& config,
                              const std::optional<JsonObject>& generation, int32_t vocabulary);

}  // namespace ringtide::model
