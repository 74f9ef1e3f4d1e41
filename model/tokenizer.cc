#include "model/tokenizer.h"

#include <string>

#include "model/byte_bpe_tokenizer.h"
#include "model/gguf.h"
#include "model/sentencepiece_tokenizer.h"
#include "model/tokenizer_tables.h"

namespace ringtide::model {

std::shared_ptr<const Tokenizer> make_tokenizer(const TokenizerTables& tables) {
  if (tables.model == "gpt2") return std::make_shared<ByteBpeTokenizer>(tables);
  if (tables.model == "llama") return std::make_shared<SentencePieceTokenizer>(tables);
  throw ModelError("tokenizer.ggml.model: \"" + std::string(tables.model) +
                   "\" is not supported; \"gpt2\" (byte-level BPE) and \"llama\" "
                   "(SentencePiece's BPE) are");
}

std::shared_ptr<const Tokenizer> Tokenizer::from_gguf(const GgufFile& file) {
  try {
    return make_tokenizer(read_tokenizer_tables(file));
  } catch (const ModelError& error) {
    const std::string what = error.what();
    if (what.starts_with(file.name())) throw;
    file.fail(what);
  }
}

}  // namespace ringtide::model
