// Any bytes as the files of a Hugging Face folder: refused, or a tokenizer that keeps what it is
// given.
//
// Input: tokenizer.json, a byte 0, tokenizer_config.json.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "model/hf_files.h"
#include "model/hf_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using ringtide::model::JsonObject;
  using ringtide::model::Tokenizer;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  std::shared_ptr<const Tokenizer> tokenizer;
  try {
    const auto json = ringtide::model::parse_json(input.substr(0, end), "tokenizer.json");
    std::optional<nlohmann::json> config;
    std::optional<JsonObject> object;
    if (end < size) {
      config = ringtide::model::parse_json(input.substr(end + 1), "tokenizer_config.json");
      object.emplace(*config, "tokenizer_config.json");
      ringtide::model::template_in(*object);
    }
    const auto read =
        ringtide::model::read_hf_tokenizer(JsonObject(json, "tokenizer.json"), object, {}, 300);
    tokenizer = ringtide::model::make_tokenizer(read.tables);
  } catch (const ringtide::model::ModelError&) {
    return 0;
  }
  constexpr std::string_view kText = " The sea, 1234\n\n  \xf0\x9f\x99\x82 \xff<s>'s";
  const Tokenizer::Stable stable = tokenizer->encode_stable(kText);
  auto tokens = tokenizer->encode(kText);
  tokens.resize(std::min(tokens.size(), stable.tokens.size()));
  if (tokens != stable.tokens) {
    std::fprintf(stderr, "does not hold: certain tokens start the whole\n");
    std::abort();
  }
  ringtide::model::Detokenizer detokenizer(tokenizer);
  for (const auto token : tokens) detokenizer.push(token);
  detokenizer.finish();
  return 0;
}
