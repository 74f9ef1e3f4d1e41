// A small file, from its bytes to its tokens, against the independent float64 forward pass of
// tests/fixtures/make_reference.py: no model need be fetched.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/model.h"
#include "model/tokenizer.h"
#include "tests/model/greedy.h"
#include "tests/support/tiny_gguf.h"

namespace ringtide {
namespace {

using model::TokenId;

// The fixture was made of `tiny_gguf FILE --layers 3 --seed 11`.
std::shared_ptr<const model::Model> load_tiny() {
  const auto path = std::filesystem::temp_directory_path() /
                    ("tiny_reference." + std::to_string(::getpid()) + ".gguf");
  testing::write_tiny_gguf(path.string(), {.layers = 3, .seed = 11});
  auto loaded = model::Model::load(path.string());
  std::filesystem::remove(path);
  return loaded;
}

TEST(TinyReference, TextBecomesTheExpectedTokens) {
  std::ifstream in(RINGTIDE_FIXTURES "/tiny_greedy.json");
  const auto fixture = nlohmann::json::parse(in);
  const auto loaded = load_tiny();
  ASSERT_EQ(fixture["cases"].size(), 3u);
  for (const auto& c : fixture["cases"]) {
    // Far from a tie: float32 must come to the same tokens.
    ASSERT_GT(c["min_gap"].get<double>(), 5e-3) << c["name"];
    const std::vector<TokenId> prompt = c["prompt"], expected = c["tokens"];
    EXPECT_EQ(loaded->tokenizer->encode(c["text"].get<std::string>()), prompt) << c["name"];
    EXPECT_EQ(testing::continue_greedily(loaded, prompt, expected.size()), expected) << c["name"];
  }
}

}  // namespace
}  // namespace ringtide
