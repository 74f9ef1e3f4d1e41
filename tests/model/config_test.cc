#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/quantize.h"
#include "tests/support/tiny_gguf.h"

namespace ringtide::model {
namespace {

using ::testing::AllOf;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::tiny_gguf;

ModelConfig config_of(const GgufBuilder& builder) {
  const std::vector<std::byte> bytes = builder.build();
  return read_config(GgufFile::from_memory(bytes, "tiny"));
}

TEST(Config, ReadsTheShape) {
  const ModelConfig c = config_of(
      tiny_gguf({.layers = 3, .hidden = 96, .heads = 6, .kv_heads = 2, .ffn = 160, .seed = 5}));
  EXPECT_EQ(c.architecture, "llama");
  EXPECT_EQ(c.name, "tiny 5");
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.hidden, 96);
  EXPECT_EQ(c.heads, 6);
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.ffn, 160);
  EXPECT_GT(c.vocabulary, 259);
  EXPECT_EQ(c.trained_context, 512);
  EXPECT_FLOAT_EQ(c.norm_eps, 1e-5f);
  ASSERT_EQ(c.rope_inv_freq.size(), 8u);
  EXPECT_DOUBLE_EQ(c.rope_inv_freq[0], 1);
}

TEST(Config, TakesAnExplicitHeadWidth) {
  EXPECT_EQ(
      config_of(tiny_gguf({.hidden = 64, .heads = 2, .kv_heads = 1, .head_dim = 48})).head_dim, 48);
}

TEST(Config, HeadsKeepTheirOwnKeysWhereTheFileDoesNotSay) {
  GgufBuilder builder = tiny_gguf({});
  builder.drop("llama.attention.head_count_kv");
  EXPECT_EQ(config_of(builder).kv_heads, 4);
}

TEST(Config, LinearScalingDividesTheFrequencies) {
  GgufBuilder builder = tiny_gguf({});
  const std::vector<double> before = config_of(builder).rope_inv_freq;
  builder.set("llama.rope.scaling.type", std::string("linear"));
  builder.set("llama.rope.scaling.factor", 4.0f);
  const std::vector<double> after = config_of(builder).rope_inv_freq;
  for (size_t j = 0; j < before.size(); ++j) EXPECT_DOUBLE_EQ(after[j], before[j] / 4);
}

TEST(Config, Llama3ScalingFromMetadataOrFromTheTensorOfFactors) {
  GgufBuilder builder = tiny_gguf({});
  const std::vector<double> before = config_of(builder).rope_inv_freq;
  builder.set("llama.rope.scaling.type", std::string("llama3"));
  builder.set("llama.rope.scaling.factor", 8.0f);
  builder.set("llama.rope.scaling.original_context_length", uint32_t{64});
  const std::vector<double> computed = config_of(builder).rope_inv_freq;
  EXPECT_DOUBLE_EQ(computed.front(), before.front());
  EXPECT_DOUBLE_EQ(computed.back(), before.back() / 8);

  std::vector<float> factors;
  for (size_t j = 0; j < before.size(); ++j) {
    factors.push_back(static_cast<float>(before[j] / computed[j]));
  }
  GgufBuilder converted = tiny_gguf({});
  converted.tensors.push_back(
      {"rope_freqs.weight", {factors.size()}, 0, testing::quantize("F32", factors)});
  const std::vector<double> read = config_of(converted).rope_inv_freq;
  for (size_t j = 0; j < before.size(); ++j) EXPECT_NEAR(read[j], computed[j], 1e-6 * computed[j]);

  // Both in one file are the same scaling told twice.
  builder.tensors.push_back(converted.tensors.back());
  EXPECT_EQ(config_of(builder).rope_inv_freq, read);
}

TEST(Config, LlamaSlidesInAllLayersOrNone) {
  EXPECT_TRUE(config_of(tiny_gguf({})).sliding.empty());
  const ModelConfig c = config_of(tiny_gguf({.sliding_window = 96}));
  EXPECT_EQ(c.sliding, std::vector<bool>({true, true}));
  EXPECT_EQ(c.sliding_window, 96);
  EXPECT_TRUE(c.sliding_inv_freq.empty());
}

TEST(Config, Gemma3SlidesInFiveLayersOfSix) {
  const ModelConfig c = config_of(
      tiny_gguf({.architecture = "gemma3", .layers = 13, .rope_base = 1e6f, .linear_scaling = 8}));
  EXPECT_EQ(c.sliding_window, 24);
  for (int i = 0; i < 13; ++i) EXPECT_EQ(c.slides(i), i != 5 && i != 11) << i;
  EXPECT_DOUBLE_EQ(c.rope_inv_freq[1], std::pow(1e6, -1.0 / 8) / 8);
  EXPECT_DOUBLE_EQ(c.sliding_inv_freq[1], std::pow(1e4, -1.0 / 8));
  EXPECT_FLOAT_EQ(c.embedding_scale, 8);
  EXPECT_FLOAT_EQ(c.attention_scale, 0.25f);
  EXPECT_EQ(c.activation, Activation::GeluTanh);
}

TEST(Config, Gemma3TakesAnotherPeriodAndLocalBase) {
  GgufBuilder builder = tiny_gguf({.architecture = "gemma3", .layers = 4});
  builder.set("gemma3.attention.sliding_window_pattern", uint32_t{2});
  builder.set("gemma3.rope.freq_base_swa", 500.0f);
  const ModelConfig c = config_of(builder);
  EXPECT_EQ(c.sliding, std::vector<bool>({true, false, true, false}));
  EXPECT_DOUBLE_EQ(c.sliding_inv_freq[1], std::pow(500, -1.0 / 8));
}

TEST(Config, Gemma3Of62LayersHasAnotherScale) {
  EXPECT_FLOAT_EQ(
      config_of(
          tiny_gguf(
              {.architecture = "gemma3", .layers = 62, .hidden = 64, .heads = 4, .head_dim = 8}))
          .attention_scale,
      0.25f);
}

TEST(Config, RefusesWhatAnArchitectureDoesNotServe) {
  const auto refusal = [](const GgufBuilder& builder) {
    try {
      config_of(builder);
    } catch (const ModelError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  for (const char* architecture : {"qwen2", "qwen3"}) {
    EXPECT_THAT(refusal(tiny_gguf({.architecture = architecture, .sliding_window = 32})),
                AllOf(HasSubstr(".attention.sliding_window\" is 32"), HasSubstr("not supported")));
  }
  GgufBuilder gemma = tiny_gguf({.architecture = "gemma3"});
  gemma.drop("gemma3.attention.sliding_window");
  EXPECT_THAT(refusal(gemma), HasSubstr("\"gemma3.attention.sliding_window\" is missing"));
}

struct BadConfig {
  const char* what;
  std::function<void(GgufBuilder&)> change;
  std::vector<const char*> message;
};

class BadConfigs : public ::testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigs, AreRefusedByName) {
  GgufBuilder builder = tiny_gguf({});
  GetParam().change(builder);
  try {
    config_of(builder);
    FAIL() << "was accepted";
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tiny: "));
    for (const char* part : GetParam().message) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

BadConfig with(const char* what, const char* key, testing::GgufValue value,
               std::vector<const char*> message) {
  message.push_back(key);
  return {what, [=](GgufBuilder& b) { b.set(key, value); }, message};
}

BadConfig without(const char* what, const char* key) {
  return {what, [=](GgufBuilder& b) { b.drop(key); }, {key, "is missing"}};
}

INSTANTIATE_TEST_SUITE_P(
    Config, BadConfigs,
    ::testing::ValuesIn(std::vector<BadConfig>{
        with("architecture", "general.architecture", std::string("mamba"),
             {"\"mamba\"", "supported: llama, mistral3, qwen2, qwen3, gemma3"}),
        without("no architecture", "general.architecture"),
        without("no layers", "llama.block_count"),
        without("no width", "llama.embedding_length"),
        without("no heads", "llama.attention.head_count"),
        without("no inner width", "llama.feed_forward_length"),
        without("no context", "llama.context_length"),
        without("no epsilon", "llama.attention.layer_norm_rms_epsilon"),
        with("layers 0", "llama.block_count", uint32_t{0}, {"is 0", "1 to 1024"}),
        with("layers 2^31", "llama.block_count", uint32_t{1} << 31, {"1 to 1024"}),
        with("layers negative", "llama.block_count", int32_t{-1}, {"is -1"}),
        with("layers text", "llama.block_count", std::string("two"), {"is a string"}),
        with("heads a layer", "llama.attention.head_count", std::vector<int32_t>{4, 4},
             {"an array of 2 int32"}),
        with("heads 0", "llama.attention.head_count", uint32_t{0}, {"is 0"}),
        with("heads 5", "llama.attention.head_count_kv", uint32_t{3}, {"divide the 4 heads"}),
        with("more kv heads", "llama.attention.head_count_kv", uint32_t{8}, {"from 1 to 4"}),
        with("heads that do not divide", "llama.attention.head_count", uint32_t{6},
             {"divide the embedding length 64"}),
        with("odd head", "llama.attention.key_length", uint32_t{15}, {"even"}),
        with("value width", "llama.attention.value_length", uint32_t{8}, {"16 values"}),
        with("part rotation", "llama.rope.dimension_count", uint32_t{8}, {"16 values"}),
        with("epsilon nan", "llama.attention.layer_norm_rms_epsilon",
             std::numeric_limits<float>::quiet_NaN(), {"0 to 1"}),
        with("base 0", "llama.rope.freq_base", 0.0f, {"above 0"}),
        with("base infinite", "llama.rope.freq_base", std::numeric_limits<float>::infinity(),
             {"finite"}),
        with("yarn", "llama.rope.scaling.type", std::string("yarn"),
             {"\"yarn\"", "supported: none, linear, llama3"}),
        {"linear without factor",
         [](GgufBuilder& b) { b.set("llama.rope.scaling.type", std::string("linear")); },
         {"\"llama.rope.scaling.factor\" is missing"}},
        {"linear by 0",
         [](GgufBuilder& b) {
           b.set("llama.rope.scaling.type", std::string("linear"));
           b.set("llama.rope.scaling.factor", 0.0f);
         },
         {"\"llama.rope.scaling.factor\"", "above 0"}},
        {"llama3 without context",
         [](GgufBuilder& b) {
           b.set("llama.rope.scaling.type", std::string("llama3"));
           b.set("llama.rope.scaling.factor", 8.0f);
         },
         {"\"llama.rope.scaling.original_context_length\" is missing"}},
        {"frequency factors of another width",
         [](GgufBuilder& b) {
           b.tensors.push_back({"rope_freqs.weight", {4}, 0, std::vector<std::byte>(16)});
         },
         {"\"rope_freqs.weight\"", "8 elements"}},
        {"frequency factors of 0",
         [](GgufBuilder& b) {
           b.tensors.push_back({"rope_freqs.weight", {8}, 0, std::vector<std::byte>(32)});
         },
         {"\"rope_freqs.weight\"", "above 0"}},
        with("experts", "llama.expert_count", uint32_t{8}, {"not supported"}),
        with("pattern", "llama.attention.sliding_window_pattern", uint32_t{2},
             {"all layers slide"}),
        with("soft capping", "llama.final_logit_softcapping", 30.0f, {"not supported"}),
        with("temperature", "llama.attention.temperature_scale", 0.1f, {"not supported"}),
        with("logit scale", "llama.logit_scale", 0.5f, {"not supported"}),
        with("not causal", "llama.attention.causal", false, {"causal"}),
        with("vocabulary", "llama.vocab_size", uint32_t{1000}, {"is 1000", "token_embd.weight"}),
        {"fewer tokens",
         [](GgufBuilder& b) {
           b.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
         },
         {"tokenizer.ggml.tokens", "is 2"}},
        {"no embedding", [](GgufBuilder& b) { b.drop_tensor("token_embd.weight"); },
         {"\"token_embd.weight\" is missing"}},
        {"flat embedding", [](GgufBuilder& b) { b.tensor("token_embd.weight").shape = {64}; },
         {"\"token_embd.weight\"", "2 dimensions"}},
    }),
    [](const auto& test) {
      std::string name;
      for (const char c : std::string(test.param.what)) name += std::isalnum(c) ? c : '_';
      return name;
    });

TEST(Config, AcceptsUnsupportedFeaturesThatAreOff) {
  GgufBuilder builder = tiny_gguf({});
  builder.set("llama.expert_count", uint32_t{0});
  builder.set("llama.logit_scale", 1.0f);
  builder.set("llama.attention.causal", true);
  builder.set("llama.rope.scaling.type", std::string("none"));
  EXPECT_EQ(config_of(builder).layers, 2);
}

}  // namespace
}  // namespace ringtide::model
