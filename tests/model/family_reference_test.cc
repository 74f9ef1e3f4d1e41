// Small files of every architecture, from their bytes to their tokens, against the independent
// float64 forward pass of tests/fixtures/make_reference.py.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/model.h"
#include "tests/model/greedy.h"
#include "tests/support/tiny_gguf.h"

namespace ringtide {
namespace {

using model::TokenId;

nlohmann::json fixture() {
  std::ifstream in(RINGTIDE_FIXTURES "/family_greedy.json");
  return nlohmann::json::parse(in);
}

testing::TinyModel tiny_model(const nlohmann::json& options) {
  testing::TinyModel m;
  for (const auto& [key, value] : options.items()) {
    if (key == "architecture") {
      m.architecture = value;
    } else if (key == "layers") {
      m.layers = value;
    } else if (key == "head-dim") {
      m.head_dim = value;
    } else if (key == "kv-heads") {
      m.kv_heads = value;
    } else if (key == "untied") {
      m.tied = !value.get<bool>();
    } else if (key == "sliding-window") {
      m.sliding_window = value;
    } else if (key == "linear-scaling") {
      m.linear_scaling = value;
    } else if (key == "rope-factors") {
      m.rope_factors = value;
    } else if (key == "seed") {
      m.seed = value;
    } else {
      throw std::invalid_argument(key);
    }
  }
  return m;
}

class FamilyReference : public ::testing::TestWithParam<int> {};

TEST_P(FamilyReference, PromptsBecomeTheExpectedTokens) {
  const nlohmann::json entry = fixture()["models"].at(GetParam());
  const auto path = std::filesystem::temp_directory_path() /
                    ("family_reference." + std::to_string(::getpid()) + ".gguf");
  testing::write_tiny_gguf(path.string(), tiny_model(entry["options"]));
  const auto loaded = model::Model::load(path.string());
  std::filesystem::remove(path);
  ASSERT_EQ(entry["cases"].size(), 3u);
  for (const auto& c : entry["cases"]) {
    // Far from a tie: float32 must come to the same tokens.
    ASSERT_GT(c["min_gap"].get<double>(), 5e-3) << c["name"];
    const std::vector<TokenId> expected = c["tokens"];
    ASSERT_EQ(expected.size(), 64u);
    EXPECT_EQ(testing::continue_greedily(loaded, c["prompt"], expected.size()), expected)
        << c["name"];
  }
}

std::string name_of(const ::testing::TestParamInfo<int>& test) {
  return fixture()["models"].at(test.param)["name"];
}

INSTANTIATE_TEST_SUITE_P(Family, FamilyReference,
                         ::testing::Range(0, static_cast<int>(fixture()["models"].size())),
                         name_of);

}  // namespace
}  // namespace ringtide
