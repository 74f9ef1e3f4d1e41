// Tokenizers from the files of a Hugging Face folder: tokenizer.json and tokenizer_config.json.
//
// Byte-level BPE, and BPE with byte fallback (Llama 2, Mistral, Gemma). The file says how text is
// normalised and split in components of its own; those that the supported models use are known, and
// a file with another is refused by its name. Differences from what the `tokenizers` package does,
// as everywhere here: text keeps its bytes (NFC is not applied), and no name of a special token in
// a text becomes that token.
//
// Format: https://huggingface.co/docs/tokenizers and the files of the models.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/types.h"

namespace ringtide::model {

struct TokenizerFiles {
  std::string_view tokenizer;         // text of tokenizer.json
  std::string_view tokenizer_config;  // text of tokenizer_config.json; empty: there is none
  // `eos_token_id` of generation_config.json or config.json: what ends generation beside the
  // tokenizer's own eos.
  std::vector<TokenId> ends;
};

struct FolderText {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string chat_template;  // of tokenizer_config.json; empty: it has none
};

// Throws ModelError that names the file and the component or key.
FolderText read_tokenizer_files(const TokenizerFiles& files);

}  // namespace ringtide::model
