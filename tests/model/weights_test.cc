#include "model/weights.h"

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

// Weights of a file that is kept with them.
struct Loaded {
  explicit Loaded(const GgufBuilder& builder, const Progress& progress = {})
      : bytes(builder.build()),
        file(GgufFile::from_memory(bytes, "tiny")),
        config(read_config(file)),
        weights(load_weights(file, config, threads, progress)) {}

  std::vector<float> values(const std::string& name) const {
    const GgufTensor& t = *file.tensor(name);
    int64_t n = 1;
    for (const int64_t extent : t.shape) n *= extent;
    std::vector<float> out(n);
    for (const auto type :
         {kernels::TensorType::F32, kernels::TensorType::F16, kernels::TensorType::BF16,
          kernels::TensorType::Q8_0, kernels::TensorType::Q4_0, kernels::TensorType::Q4_1}) {
      if (kernels::type_info(type).name == t.type_name) {
        kernels::dequantize(type, t.bytes.data(), n, out.data());
      }
    }
    return out;
  }

  // w * x by the kernels.
  std::vector<float> times(const kernels::PackedMatrix& w, const std::vector<float>& x) {
    std::vector<float> y(w.n);
    kernels::matmul(x.data(), 1, w, y.data(), kernels::Write::Replace, threads);
    return y;
  }

  kernels::ThreadPool threads{2};
  std::vector<std::byte> bytes;
  GgufFile file;
  ModelConfig config;
  Weights weights;
};

std::vector<float> wave(int64_t n) {
  std::vector<float> x(n);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i)));
  return x;
}

// Row r of a file's (n, k) matrix times x.
double row_times(const std::vector<float>& matrix, int64_t r, const std::vector<float>& x) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += double{matrix[r * x.size() + i]} * x[i];
  return sum;
}

class EveryType : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryType, MatricesMultiplyAsTheFileSays) {
  Loaded m(tiny_gguf({.type = GetParam(), .embedding_type = GetParam(), .tied = false}));
  const std::vector<float> x = wave(m.config.hidden);
  const LayerWeights& layer = m.weights.layers[1];
  const std::tuple<const char*, const kernels::PackedMatrix*> plain[] = {
      {"blk.1.attn_v.weight", &layer.wv},
      {"blk.1.ffn_gate.weight", &layer.gate},
      {"blk.1.ffn_up.weight", &layer.up},
      {"output.weight", &m.weights.output}};
  // Activations may be kept in fewer bits on the way.
  const double tolerance = 0.05;
  for (const auto& [name, packed] : plain) {
    const std::vector<float> matrix = m.values(name);
    const std::vector<float> y = m.times(*packed, x);
    ASSERT_EQ(y.size() * x.size(), matrix.size()) << name;
    for (size_t r = 0; r < y.size(); ++r) {
      ASSERT_NEAR(y[r], row_times(matrix, static_cast<int64_t>(r), x), tolerance)
          << name << " row " << r;
    }
  }
}

TEST_P(EveryType, QueriesAndKeysComeHalfSplit) {
  Loaded m(tiny_gguf({.type = GetParam()}));
  const std::vector<float> x = wave(m.config.hidden);
  const int half = m.config.head_dim / 2;
  const auto check = [&](const char* name, const kernels::PackedMatrix& packed, int heads) {
    const std::vector<float> matrix = m.values(name);
    const std::vector<float> y = m.times(packed, x);
    for (int h = 0; h < heads; ++h) {
      const int head = h * m.config.head_dim;
      for (int j = 0; j < half; ++j) {
        ASSERT_NEAR(y[head + j], row_times(matrix, head + 2 * j, x), 0.05);
        ASSERT_NEAR(y[head + half + j], row_times(matrix, head + 2 * j + 1, x), 0.05);
      }
    }
  };
  check("blk.0.attn_q.weight", m.weights.layers[0].wq, m.config.heads);
  check("blk.0.attn_k.weight", m.weights.layers[0].wk, m.config.kv_heads);
}

INSTANTIATE_TEST_SUITE_P(Weights, EveryType,
                         ::testing::Values("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"));

TEST(Weights, NormsAndEmbeddingAreTheFiles) {
  const Loaded m(tiny_gguf({}));
  const std::vector<float> norm = m.values("blk.1.ffn_norm.weight");
  EXPECT_EQ(std::memcmp(m.weights.layers[1].ffn_norm, norm.data(), norm.size() * 4), 0);
  EXPECT_EQ(m.weights.embedding.rows, m.file.tensor("token_embd.weight")->bytes.data());
  EXPECT_EQ(m.weights.embedding.type, kernels::TensorType::F32);
}

TEST(Weights, ATiedModelEndsInItsEmbedding) {
  Loaded m(tiny_gguf({.embedding_type = "Q8_0"}));
  const std::vector<float> x = wave(m.config.hidden);
  const std::vector<float> embedding = m.values("token_embd.weight");
  const std::vector<float> y = m.times(m.weights.output, x);
  ASSERT_EQ(static_cast<int32_t>(y.size()), m.config.vocabulary);
  for (size_t r = 0; r < y.size(); ++r) {
    ASSERT_NEAR(y[r], row_times(embedding, static_cast<int64_t>(r), x), 0.05);
  }
}

TEST(Weights, ProgressRisesToOne) {
  double last = 0;
  int calls = 0;
  const Loaded m(tiny_gguf({}), [&](double part) {
    EXPECT_GE(part, last);
    last = part;
    ++calls;
  });
  EXPECT_EQ(last, 1.0);
  EXPECT_GT(calls, 2);
}

struct BadWeights {
  const char* what;
  std::function<void(GgufBuilder&)> change;
  std::vector<const char*> message;
};

class BadTensors : public ::testing::TestWithParam<BadWeights> {};

TEST_P(BadTensors, AreRefusedByName) {
  GgufBuilder builder = tiny_gguf({});
  GetParam().change(builder);
  try {
    const Loaded m(builder);
    FAIL() << "was accepted";
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tiny: "));
    for (const char* part : GetParam().message) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Weights, BadTensors,
    ::testing::ValuesIn(std::vector<BadWeights>{
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
           b.tensors.push_back({"blk.0.attn_q.bias", {64}, 0, std::vector<std::byte>(256)});
         },
         {"\"blk.0.attn_q.bias\"", "would change the model's output"}},
        {"type not served",
         [](GgufBuilder& b) {
           b.tensor("blk.0.attn_v.weight") = {
               "blk.0.attn_v.weight", {64, 32}, 6, std::vector<std::byte>(64 / 32 * 22 * 32)};
         },
         {"\"blk.0.attn_v.weight\" has type Q5_0", "supported: F32, F16"}},
        {"type not known",
         [](GgufBuilder& b) { b.tensor("blk.0.attn_v.weight").type = 4711; },
         {"\"blk.0.attn_v.weight\" has type number 4711", "supported: F32"}},
        {"embedding type not known",
         [](GgufBuilder& b) { b.tensor("token_embd.weight").type = 4711; },
         {"\"token_embd.weight\" has type number 4711"}},
        {"norm not F32",
         [](GgufBuilder& b) {
           b.tensor("blk.0.attn_norm.weight").type = 1;
           b.tensor("blk.0.attn_norm.weight").bytes.resize(128);
         },
         {"\"blk.0.attn_norm.weight\" has type F16; a norm must be F32"}},
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
