#include "model/read_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "model/config.h"
#include "tests/support/quantize.h"
#include "tests/support/tiny_gguf.h"

namespace ringtide::model {
namespace {

using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::tiny_gguf;

// Tensors of a file that is kept with them.
struct Read {
  explicit Read(const GgufBuilder& builder)
      : bytes(builder.build()),
        file(GgufFile::from_memory(bytes, "tiny")),
        tensors(read_tensors(file, read_config(file))) {}

  std::vector<std::byte> bytes;
  GgufFile file;
  Tensors tensors;
};

TEST(ReadTensors, MatricesAreTheFiles) {
  const Read m(tiny_gguf({.type = "Q4_1", .embedding_type = "Q8_0", .tied = false}));
  const RawMatrix& down = m.tensors.layers[1].down;
  EXPECT_EQ(down.name, "blk.1.ffn_down.weight");
  EXPECT_EQ(down.type, kernels::TensorType::Q4_1);
  EXPECT_EQ(down.rows, m.file.tensor("blk.1.ffn_down.weight")->bytes.data());
  EXPECT_EQ(down.n, 64);
  EXPECT_EQ(down.k, 128);
  EXPECT_TRUE(down.order.empty());
  EXPECT_EQ(m.tensors.embedding.rows, m.file.tensor("token_embd.weight")->bytes.data());
  EXPECT_EQ(m.tensors.embedding.type, kernels::TensorType::Q8_0);
  EXPECT_EQ(m.tensors.output.rows, m.file.tensor("output.weight")->bytes.data());
  int64_t bytes = 0;
  for (const FileTensor& t : m.file.tensors()) bytes += static_cast<int64_t>(t.bytes.size());
  EXPECT_EQ(m.tensors.bytes, bytes);
}

TEST(ReadTensors, NormsAreFloats) {
  const Read m(tiny_gguf({}));
  const std::span<const std::byte> norm = m.file.tensor("blk.1.ffn_norm.weight")->bytes;
  ASSERT_EQ(m.tensors.layers[1].ffn_norm.size() * 4, norm.size());
  EXPECT_EQ(std::memcmp(m.tensors.layers[1].ffn_norm.data(), norm.data(), norm.size()), 0);
}

TEST(ReadTensors, ATiedModelEndsInItsEmbedding) {
  const Read m(tiny_gguf({}));
  EXPECT_EQ(m.tensors.output.rows, m.tensors.embedding.rows);
}

std::vector<float> floats(const Read& m, const char* name) {
  const std::span<const std::byte> bytes = m.file.tensor(name)->bytes;
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(ReadTensors, OnlyLlamasRowsAreReordered) {
  for (const char* architecture : {"llama", "mistral3"}) {
    const Read m(tiny_gguf({.architecture = architecture}));
    ASSERT_EQ(m.tensors.layers[0].wq.order.size(), 64u);
    EXPECT_EQ(m.tensors.layers[0].wk.order[1], 2);
  }
  for (const char* architecture : {"qwen2", "qwen3", "gemma3"}) {
    const Read m(tiny_gguf({.architecture = architecture}));
    EXPECT_TRUE(m.tensors.layers[0].wq.order.empty());
    EXPECT_TRUE(m.tensors.layers[0].wk.order.empty());
  }
}

TEST(ReadTensors, EachArchitectureHasItsOwn) {
  const Read qwen2(tiny_gguf({.architecture = "qwen2"}));
  EXPECT_EQ(qwen2.tensors.layers[1].q_bias, floats(qwen2, "blk.1.attn_q.bias"));
  EXPECT_EQ(qwen2.tensors.layers[1].v_bias, floats(qwen2, "blk.1.attn_v.bias"));
  EXPECT_TRUE(qwen2.tensors.layers[1].q_norm.empty());
  const Read gemma(tiny_gguf({.architecture = "gemma3"}));
  EXPECT_EQ(gemma.tensors.layers[1].k_norm, floats(gemma, "blk.1.attn_k_norm.weight"));
  EXPECT_EQ(gemma.tensors.layers[1].post_ffn_norm, floats(gemma, "blk.1.post_ffw_norm.weight"));
  EXPECT_TRUE(gemma.tensors.layers[1].q_bias.empty());
}

// A bias belongs to a row, and moves with it.
TEST(ReadTensors, LlamasBiasesAreReorderedAsItsRows) {
  GgufBuilder builder = tiny_gguf({.layers = 1});
  std::vector<float> counted(64);
  for (size_t i = 0; i < counted.size(); ++i) counted[i] = static_cast<float>(i);
  for (const auto& [name, n] : {std::pair("q", 64), {"k", 32}, {"v", 32}}) {
    builder.tensors.push_back({"blk.0.attn_" + std::string(name) + ".bias",
                               {static_cast<uint64_t>(n)},
                               0,
                               testing::quantize("F32", {counted.begin(), counted.begin() + n})});
  }
  const Read m(builder);
  const LayerTensors& layer = m.tensors.layers[0];
  for (int i = 0; i < 64; ++i) EXPECT_EQ(layer.q_bias[i], layer.wq.order[i]);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(layer.k_bias[i], layer.wk.order[i]);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(layer.v_bias[i], i);
}

struct BadTensor {
  const char* what;
  std::function<void(GgufBuilder&)> change;
  std::vector<const char*> message;
};

class BadTensors : public ::testing::TestWithParam<BadTensor> {};

TEST_P(BadTensors, AreRefusedByName) {
  GgufBuilder builder = tiny_gguf({});
  GetParam().change(builder);
  try {
    const Read m(builder);
    FAIL() << "was accepted";
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tiny: "));
    for (const char* part : GetParam().message) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

INSTANTIATE_TEST_SUITE_P(
    ReadTensors, BadTensors,
    ::testing::ValuesIn(std::vector<BadTensor>{
        {"missing",
         [](GgufBuilder& b) { b.drop_tensor("blk.1.ffn_up.weight"); },
         {"\"blk.1.ffn_up.weight\" is missing"}},
        {"no output norm",
         [](GgufBuilder& b) { b.drop_tensor("output_norm.weight"); },
         {"\"output_norm.weight\" is missing"}},
        {"transposed",
         [](GgufBuilder& b) {
           b.tensor("blk.0.ffn_down.weight").shape = {64, 128};
         },
         {"\"blk.0.ffn_down.weight\" has shape (64, 128), not (128, 64)"}},
        {"other rank",
         [](GgufBuilder& b) {
           b.tensor("blk.0.attn_q.weight").shape = {64, 64, 1};
         },
         {"\"blk.0.attn_q.weight\" has shape (64, 64, 1), not (64, 64)"}},
        {"more layers said",
         [](GgufBuilder& b) { b.set("llama.block_count", uint32_t{3}); },
         {"\"blk.2.attn_norm.weight\" is missing"}},
        {"fewer layers said",
         [](GgufBuilder& b) { b.set("llama.block_count", uint32_t{1}); },
         {"tensor \"blk.1.", "would change the model's output"}},
        {"bias",
         [](GgufBuilder& b) {
           b.tensors.push_back({"blk.0.attn_output.bias", {64}, 0, std::vector<std::byte>(256)});
         },
         {"\"blk.0.attn_output.bias\"", "would change the model's output"}},
        {"one bias of three",
         [](GgufBuilder& b) {
           b.tensors.push_back({"blk.0.attn_q.bias", {64}, 0, std::vector<std::byte>(256)});
         },
         {"\"blk.0.attn_k.bias\" is missing"}},
        {"type not served",
         [](GgufBuilder& b) {
           b.tensor("blk.0.attn_v.weight") = {
               "blk.0.attn_v.weight", {64, 32}, 39, std::vector<std::byte>(64 / 32 * 17 * 32)};
         },
         {"\"blk.0.attn_v.weight\" has type MXFP4", "supported: F32, F16"}},
        {"type not known",
         [](GgufBuilder& b) { b.tensor("blk.0.attn_v.weight").type = 4711; },
         {"\"blk.0.attn_v.weight\" has type number 4711", "supported: F32"}},
        {"embedding type not known",
         [](GgufBuilder& b) { b.tensor("token_embd.weight").type = 4711; },
         {"\"token_embd.weight\" has type number 4711"}},
        {"norm not F32",
         [](GgufBuilder& b) {
           b.tensor("blk.0.attn_norm.weight").type = 8;
           b.tensor("blk.0.attn_norm.weight").bytes.resize(68);
         },
         {"\"blk.0.attn_norm.weight\" has type Q8_0; a norm or bias must be F32, F16 or BF16"}},
        {"norm not a number",
         [](GgufBuilder& b) {
           b.tensor("output_norm.weight").bytes =
               testing::quantize("F32", std::vector<float>(64, std::nanf("")));
         },
         {"\"output_norm.weight\" holds a value that is not finite"}},
    }),
    [](const auto& test) {
      std::string name;
      for (const char c : std::string(test.param.what)) name += std::isalnum(c) ? c : '_';
      return name;
    });

}  // namespace
}  // namespace ringtide::model
