#include "kernels/cuda/elementwise.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct Elementwise : DeviceTest {};

TEST_F(Elementwise, EmbedsTokens) {
  for (const int64_t hidden : {576, 61}) {
    const int64_t vocabulary = 50, rows = 33;
    const auto table = normals_bf16(random, vocabulary * hidden);
    std::vector<int32_t> tokens(rows);
    for (int32_t& t : tokens) t = static_cast<int32_t>(between(random, 0, vocabulary - 1));
    Device<float> x(rows * hidden);
    embed(Device(tokens), Device(table), rows, hidden, 3.5f, x, nullptr);
    const auto got = x.host();
    for (int64_t i = 0; i < rows * hidden; ++i) {
      ASSERT_EQ(got[i], 3.5f * __bfloat162float(table[tokens[i / hidden] * hidden + i % hidden]));
    }
    embed(nullptr, nullptr, 0, hidden, 1, nullptr, nullptr);
  }
}

TEST_F(Elementwise, NormalisesRowsAlike) {
  for (const int64_t dim : {576, 4096, 61, 5120}) {
    const int64_t rows = 64;
    const auto x = normals(random, rows * dim, 3), weight = normals(random, dim);
    std::vector<double> want(rows * dim);
    for (int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (int64_t i = 0; i < dim; ++i) squares += double{x[r * dim + i]} * x[r * dim + i];
      for (int64_t i = 0; i < dim; ++i)
        want[r * dim + i] = x[r * dim + i] * weight[i] / std::sqrt(squares / dim + 1e-5);
    }
    Device<float> dx(x), dw(weight);
    Device<bf16> y(rows * dim), one(dim);
    rms_norm(dx, dw, 1e-5f, rows, dim, y, nullptr);
    const auto got = y.host();
    EXPECT_LT(error(got, want), kRounding) << dim;
    rms_norm(dx + 7 * dim, dw, 1e-5f, 1, dim, one, nullptr);
    EXPECT_TRUE(same_bits(one.host(), part(got, 7 * dim, dim)));
    rms_norm(nullptr, nullptr, 1, 0, dim, nullptr, nullptr);
  }
}

TEST_F(Elementwise, Gates) {
  for (const int64_t n : {1536, 61}) {
    for (const Gate gate : {Gate::Silu, Gate::Gelu}) {
      const int64_t rows = 9;
      const auto x = normals_bf16(random, rows * 2 * n, 3);
      std::vector<double> want(rows * n);
      for (int64_t i = 0; i < rows * n; ++i) {
        const double g = value(x[i / n * 2 * n + i % n]), up = value(x[i / n * 2 * n + n + i % n]);
        const double gelu =
            g / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
        want[i] = (gate == Gate::Silu ? g / (1 + std::exp(-g)) : gelu) * up;
      }
      Device<bf16> y(rows * n);
      gate_mul(Device(x), rows, n, gate, y, nullptr);
      EXPECT_LT(error(y.host(), want), kRounding);
    }
  }
}

TEST_F(Elementwise, TakesAnglesInDouble) {
  const std::vector<double> frequencies = {1, 0.1, 0.0123, 1e-6};
  for (const int64_t position : {int64_t{0}, int64_t{1} << 20, (int64_t{1} << 40) - 3}) {
    Device<float> c(3 * 4), s(3 * 4);
    rope_angles(Device(frequencies), 4, position, 3, c, s, nullptr);
    const auto cos = c.host(), sin = s.host();
    for (int i = 0; i < 12; ++i) {
      const long double angle =
          static_cast<long double>(position + i / 4) * frequencies[static_cast<size_t>(i % 4)];
      EXPECT_NEAR(cos[i], std::cos(angle), 2e-7);
      EXPECT_NEAR(sin[i], std::sin(angle), 2e-7);
    }
  }
}

}  // namespace
}  // namespace ringtide::kernels::cuda
