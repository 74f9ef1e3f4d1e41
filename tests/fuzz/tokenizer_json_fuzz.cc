// Any bytes as the files of a Hugging Face folder: refused, or a tokenizer that keeps what it is
// given.
//
// Input: tokenizer.json, a byte 0, tokenizer_config.json.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "model/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using ringtide::model::Tokenizer;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), size);
  std::shared_ptr<const Tokenizer> tokenizer;
  try {
    tokenizer = ringtide::model::read_tokenizer_files(
                    {.tokenizer = input.substr(0, end),
                     .tokenizer_config = input.substr(std::min(end + 1, size)),
                     .ends = {}})
                    .tokenizer;
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
