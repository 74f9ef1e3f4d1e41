#include "model/tokenizer_tables.h"

#include <optional>
#include <string>

#include "model/gguf.h"

namespace ringtide::model {
namespace {

// Where a file does not say: sequences start with bos in SentencePiece's models, and of the
// byte-level ones in Llama 3 and Mistral Nemo.
bool adds_bos_by_default(const TokenizerTables& tables) {
  if (tables.model == "llama") return tables.bos >= 0;
  return tables.pre == "llama-bpe" || tables.pre == "llama3" || tables.pre == "llama-v3" ||
         tables.pre == "tekken";
}

}  // namespace

TokenizerTables read_tokenizer_tables(const GgufFile& file) {
  TokenizerTables tables;
  tables.model = file.require<std::string_view>("tokenizer.ggml.model");
  tables.pre = file.find<std::string_view>("tokenizer.ggml.pre").value_or(tables.pre);
  tables.tokens = file.require<std::vector<std::string_view>>("tokenizer.ggml.tokens");
  if (auto kinds = file.find<std::vector<int32_t>>("tokenizer.ggml.token_type")) {
    if (kinds->size() != tables.tokens.size()) {
      file.fail("tokenizer.ggml.token_type has " + std::to_string(kinds->size()) +
                " entries for the " + std::to_string(tables.tokens.size()) +
                " of tokenizer.ggml.tokens");
    }
    tables.kinds = *std::move(kinds);
  }
  const int64_t count = static_cast<int64_t>(tables.tokens.size());
  const auto id_at = [&](const std::string& key) -> TokenId {
    const std::optional<int64_t> id = file.find<int64_t>(key);
    if (id && (*id < 0 || *id >= count)) {
      file.fail(key + " is " + std::to_string(*id) + ", but there are " + std::to_string(count) +
                " tokens");
    }
    return static_cast<TokenId>(id.value_or(-1));
  };
  tables.bos = id_at("tokenizer.ggml.bos_token_id");
  tables.eos = id_at("tokenizer.ggml.eos_token_id");
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const TokenId id = id_at(key); id >= 0) tables.ends.push_back(id);
  }
  tables.adds_bos =
      file.find<bool>("tokenizer.ggml.add_bos_token").value_or(adds_bos_by_default(tables));
  if (const auto architecture = file.find<std::string_view>("general.architecture")) {
    const std::string key = std::string(*architecture) + ".vocab_size";
    const std::optional<int64_t> rows = file.find<int64_t>(key);
    if (rows && *rows < count) {
      file.fail(key + " is " + std::to_string(*rows) + ", but tokenizer.ggml.tokens has " +
                std::to_string(count) + " entries");
    }
  }
  if (tables.model == "llama") {
    tables.scores = file.require<std::vector<float>>("tokenizer.ggml.scores");
    const bool prefix = file.find<bool>("tokenizer.ggml.add_space_prefix").value_or(true);
    tables.space_prefix = prefix ? SpacePrefix::Always : SpacePrefix::Never;
    if (file.find<bool>("tokenizer.ggml.remove_extra_whitespaces").value_or(false)) {
      file.fail("tokenizer.ggml.remove_extra_whitespaces is true, which is not supported");
    }
    return tables;
  }
  // Absent where a vocabulary has nothing but bytes; of another tokenizer, which is refused by
  // name.
  tables.merges = file.find<std::vector<std::string_view>>("tokenizer.ggml.merges")
                      .value_or(std::vector<std::string_view>());
  return tables;
}

}  // namespace ringtide::model
