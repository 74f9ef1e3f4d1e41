#include "model/fingerprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/tiny_gguf.h"

namespace ringtide::model {
namespace {

using testing::GgufBuilder;
using testing::tiny_gguf;

std::string of(const GgufBuilder& builder) {
  const std::vector<std::byte> bytes = builder.build();
  return fingerprint(GgufFile::from_memory(bytes, "tiny"));
}

TEST(Fingerprint, IsStable) {
  EXPECT_THAT(of(tiny_gguf({})), ::testing::MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(of(tiny_gguf({})), of(tiny_gguf({})));
}

TEST(Fingerprint, IgnoresWhatDecidesNothing) {
  GgufBuilder builder = tiny_gguf({});
  builder.set("general.name", std::string("another name"));
  builder.set("general.license", std::string("apache-2.0"));
  builder.set("general.alignment", uint32_t{128});
  builder.alignment = 128;
  std::ranges::reverse(builder.tensors);
  std::ranges::reverse(builder.metadata);
  EXPECT_EQ(of(builder), of(tiny_gguf({})));
}

TEST(Fingerprint, SeesWhatChangesNumbersOrTokens) {
  const std::string before = of(tiny_gguf({}));
  EXPECT_NE(of(tiny_gguf({.seed = 2})), before);
  EXPECT_NE(of(tiny_gguf({.rope_base = 20000})), before);

  GgufBuilder byte = tiny_gguf({});
  byte.tensor("blk.1.ffn_down.weight").bytes[77] ^= std::byte{1};
  EXPECT_NE(of(byte), before);

  GgufBuilder merges = tiny_gguf({});
  for (auto& entry : merges.metadata) {
    if (entry.key == "tokenizer.ggml.merges") {
      std::ranges::reverse(std::get<std::vector<std::string>>(entry.value));
    }
  }
  EXPECT_NE(of(merges), before);

  GgufBuilder chat = tiny_gguf({});
  chat.set("tokenizer.chat_template", std::string("{{ messages }}"));
  EXPECT_NE(of(chat), before);

  GgufBuilder swapped = tiny_gguf({});
  std::swap(swapped.tensor("blk.0.ffn_up.weight").name,
            swapped.tensor("blk.0.ffn_gate.weight").name);
  EXPECT_NE(of(swapped), before);

  // The same bytes under another type.
  GgufBuilder typed = tiny_gguf({.type = "F16"});
  typed.tensor("blk.0.ffn_up.weight").type = 30;
  EXPECT_NE(of(typed), of(tiny_gguf({.type = "F16"})));
}

}  // namespace
}  // namespace ringtide::model
