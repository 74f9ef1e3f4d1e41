#include "model/cpu_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/config.h"
#include "model/read_tensors.h"
#include "tests/support/tiny_gguf.h"

namespace ringtide::model {
namespace {

using testing::GgufBuilder;
using testing::tiny_gguf;

// A file, and its weights packed.
struct Packed {
  explicit Packed(const GgufBuilder& builder, const Progress& progress = {})
      : bytes(builder.build()), file(GgufFile::from_memory(bytes, "tiny")) {
    model.config = read_config(file);
    model.tensors = read_tensors(file, model.config);
    weights = pack_weights(model, ActivationType::F32, threads, progress);
  }

  std::vector<float> values(const std::string& name) const {
    const FileTensor& t = *file.tensor(name);
    int64_t n = 1;
    for (const int64_t extent : t.shape) n *= extent;
    std::vector<float> out(n);
    for (int i = 0; i < kernels::kTensorTypes; ++i) {
      const auto type = static_cast<kernels::TensorType>(i);
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
  Model model;
  std::shared_ptr<const CpuWeights> weights;
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
  Packed m(tiny_gguf({.type = GetParam(), .embedding_type = GetParam(), .tied = false}));
  const std::vector<float> x = wave(m.model.config.hidden);
  const CpuLayer& layer = m.weights->layers[1];
  const std::tuple<const char*, const kernels::PackedMatrix*> plain[] = {
      {"blk.1.attn_v.weight", &layer.wv},
      {"blk.1.ffn_gate.weight", &layer.gate},
      {"blk.1.ffn_up.weight", &layer.up},
      {"output.weight", &m.weights->output}};
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
  Packed m(tiny_gguf({.type = GetParam()}));
  const std::vector<float> x = wave(m.model.config.hidden);
  const int half = m.model.config.head_dim / 2;
  const auto check = [&](const char* name, const kernels::PackedMatrix& packed, int heads) {
    const std::vector<float> matrix = m.values(name);
    const std::vector<float> y = m.times(packed, x);
    for (int h = 0; h < heads; ++h) {
      const int head = h * m.model.config.head_dim;
      for (int j = 0; j < half; ++j) {
        ASSERT_NEAR(y[head + j], row_times(matrix, head + 2 * j, x), 0.05);
        ASSERT_NEAR(y[head + half + j], row_times(matrix, head + 2 * j + 1, x), 0.05);
      }
    }
  };
  check("blk.0.attn_q.weight", m.weights->layers[0].wq, m.model.config.heads);
  check("blk.0.attn_k.weight", m.weights->layers[0].wk, m.model.config.kv_heads);
}

INSTANTIATE_TEST_SUITE_P(Weights, EveryType,
                         ::testing::Values("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"));

TEST(CpuWeights, ATiedModelEndsInItsEmbedding) {
  Packed m(tiny_gguf({.embedding_type = "Q8_0"}));
  const std::vector<float> x = wave(m.model.config.hidden);
  const std::vector<float> embedding = m.values("token_embd.weight");
  const std::vector<float> y = m.times(m.weights->output, x);
  ASSERT_EQ(static_cast<int32_t>(y.size()), m.model.config.vocabulary);
  for (size_t r = 0; r < y.size(); ++r) {
    ASSERT_NEAR(y[r], row_times(embedding, static_cast<int64_t>(r), x), 0.05);
  }
}

TEST(CpuWeights, ProgressRisesToOne) {
  double last = 0;
  int calls = 0;
  const Packed m(tiny_gguf({}), [&](double part) {
    EXPECT_GE(part, last);
    last = part;
    ++calls;
  });
  EXPECT_EQ(last, 1.0);
  EXPECT_GT(calls, 2);
}

}  // namespace
}  // namespace ringtide::model
