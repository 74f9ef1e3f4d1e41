// Every tokenizer against tests/fixtures/make_tokens.py: what independent implementations make of
// some thousand strings.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "model/gguf.h"
#include "model/hf_tokenizer.h"
#include "model/tokenizer_tables.h"
#include "tests/model/text_fixture.h"
#include "tests/support/default_model.h"

namespace ringtide::model {
namespace {

using Tokens = std::vector<TokenId>;

std::string fixture(const std::string& name) {
  std::ifstream in(std::string(RINGTIDE_FIXTURES) + "/" + name, std::ios::binary);
  std::string data{std::istreambuf_iterator<char>(in), {}};
  EXPECT_FALSE(data.empty()) << name;
  return data;
}

uint32_t fnv(const Tokens& tokens) {
  uint32_t value = 0x811C9DC5;
  for (const TokenId token : tokens) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ (static_cast<uint32_t>(token) >> shift & 0xFF)) * 0x01000193;
    }
  }
  return value == 0 ? 1 : value;
}

class ReferenceTokens : public ::testing::Test {
 protected:
  // Compares one column of the file. Returns how many strings the reference knew.
  int compare(size_t column, const Tokenizer& tokenizer) {
    static const std::string data = fixture("tokens.bin");
    constexpr size_t kColumns = 9, kFull = 100;
    size_t at = 0;
    const auto number = [&](auto value) {
      std::memcpy(&value, data.data() + at, sizeof(value));
      at += sizeof(value);
      return value;
    };
    int compared = 0;
    for (size_t index = 0; at < data.size(); ++index) {
      const size_t bytes = number(uint16_t{});
      const std::string text = data.substr(at, bytes);
      at += bytes;
      for (size_t i = 0; i < kColumns; ++i) {
        const uint32_t hash = number(uint32_t{});
        if (hash == 0) continue;
        std::optional<Tokens> expected;
        if (index < kFull) {
          expected.emplace(number(uint16_t{}));
          for (TokenId& token : *expected) token = number(uint16_t{});
        }
        if (i != column) continue;
        const Tokens tokens = tokenizer.encode(text);
        if (expected) {
          EXPECT_EQ(tokens, *expected) << ::testing::PrintToString(text);
        }
        EXPECT_EQ(fnv(tokens), hash) << ::testing::PrintToString(text);
        EXPECT_EQ(spelled(tokenizer, tokens),
                  (tokenizer.space_prefix() && !text.empty() ? " " : "") + text);
        ++compared;
      }
    }
    return compared;
  }
};

TEST_F(ReferenceTokens, ByteLevelWithTheDefaultModelsVocabulary) {
  const std::string path = testing::default_model_path();
  if (path.empty()) GTEST_SKIP() << testing::kNoDefaultModel;
  const GgufFile file = GgufFile::open(path);
  TokenizerTables tables = read_tokenizer_tables(file);
  size_t column = 0;
  for (const char* pre : {"smollm", "llama-bpe", "qwen2", "gpt-2", "tekken"}) {
    tables.pre = pre;
    EXPECT_GT(compare(column++, *make_tokenizer(tables)), 2500) << pre;
  }
}

TEST_F(ReferenceTokens, SentencePieceFromScores) {
  size_t column = 5;
  for (const char* name : {"space_prefix.gguf", "space_matched.gguf"}) {
    const std::string bytes = fixture(name);
    const GgufFile file = GgufFile::from_memory(std::as_bytes(std::span(bytes)), name);
    EXPECT_GT(compare(column++, *Tokenizer::from_gguf(file)), 2500) << name;
  }
}

std::shared_ptr<const Tokenizer> from_json(const char* name, int32_t vocabulary) {
  const nlohmann::json json = parse_json(fixture(name), name);
  return make_tokenizer(read_hf_tokenizer(JsonObject(json, name), {}, {}, vocabulary).tables);
}

TEST_F(ReferenceTokens, SentencePieceFromMerges) {
  EXPECT_GT(compare(7, *from_json("space_bpe.json", 1200)), 2500);
}

TEST_F(ReferenceTokens, ByteLevelFromJson) {
  EXPECT_EQ(compare(8, *from_json("byte_bpe.json", 702)), 3000);
}

}  // namespace
}  // namespace ringtide::model
