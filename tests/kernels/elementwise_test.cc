#include "kernels/elementwise.h"

#include <cmath>

#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

class Elementwise : public EachTarget {
 protected:
  Random random_{19};
  ThreadPool threads_{2};
};
RINGTIDE_EACH_TARGET(Elementwise);

TEST_P(Elementwise, RmsNormAgreesWithFloat64) {
  for (const int64_t dim : {1, 7, 16, 33, 576}) {
    for (const int64_t rows : {0, 1, 3, 40}) {
      const std::vector<float> x = normals(random_, rows * dim, 3), w = normals(random_, dim);
      Guarded<float> y(rows * dim);
      rms_norm(x.data(), w.data(), 1e-5f, rows, dim, y.data(), threads_);
      EXPECT_TRUE(y.intact());
      std::vector<float> in_place = x;
      rms_norm(in_place.data(), w.data(), 1e-5f, rows, dim, in_place.data(), threads_);
      for (int64_t i = 0; i < rows * dim; ++i) {
        double squares = 0;
        for (int64_t j = 0; j < dim; ++j) squares += std::pow(double{x[i / dim * dim + j]}, 2);
        const double expected = x[i] * double{w[i % dim]} / std::sqrt(squares / dim + 1e-5);
        ASSERT_NEAR(y[i], expected, 2e-6 * std::abs(expected));
        ASSERT_EQ(y[i], in_place[i]);
      }
    }
  }
}

TEST_P(Elementwise, SiluMulAgreesWithFloat64) {
  std::vector<float> x;
  for (float v = -90; v <= 90; v += 0.37f) x.push_back(v);
  x.insert(x.end(), {0.f, 1e-20f, -1e-20f, 200.f, 1e4f, -1e4f});
  const int64_t n = x.size();
  const std::vector<float> up = normals(random_, n);
  Guarded<float> gate(n);
  std::copy(x.begin(), x.end(), gate.data());
  silu_mul(gate.data(), up.data(), n, threads_);
  EXPECT_TRUE(gate.intact());
  for (int64_t i = 0; i < n; ++i) {
    const double expected = x[i] / (1 + std::exp(-double{x[i]})) * up[i];
    ASSERT_NEAR(gate[i], expected, 1e-6 * std::abs(expected) + 1e-33) << x[i];
  }
}

TEST_P(Elementwise, GeluMulAgreesWithFloat64) {
  std::vector<float> x;
  for (float v = -12; v <= 12; v += 0.037f) x.push_back(v);
  x.insert(x.end(), {0.f, 1e-20f, -1e-20f, 200.f, 1e4f, -1e4f});
  const int64_t n = x.size();
  const std::vector<float> up = normals(random_, n);
  Guarded<float> gate(n);
  std::copy(x.begin(), x.end(), gate.data());
  gelu_mul(gate.data(), up.data(), n, threads_);
  EXPECT_TRUE(gate.intact());
  for (int64_t i = 0; i < n; ++i) {
    const double v = x[i], u = std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v);
    // In the far tail 1 + tanh(u) cancels; this form does not.
    const double expected = v / (1 + std::exp(-2 * u)) * up[i];
    ASSERT_NEAR(gate[i], expected, 1e-5 * std::abs(expected) + 1e-30) << x[i];
    if (std::abs(v) < 2) {
      ASSERT_NEAR(gate[i], v / 2 * (1 + std::tanh(u)) * up[i], 1e-6 * (1 + std::abs(v))) << x[i];
    }
  }
}

TEST_P(Elementwise, AddsRowsOrOneRowToAll) {
  for (const int64_t dim : {1, 7, 16, 33, 576}) {
    for (const int64_t rows : {0, 1, 3, 40}) {
      const std::vector<float> x = normals(random_, rows * dim),
                               y = normals(random_, rows * dim + dim);
      for (const int64_t stride : {int64_t{0}, dim}) {
        Guarded<float> sum(rows * dim);
        std::copy(x.begin(), x.end(), sum.data());
        add(sum.data(), y.data(), stride, rows, dim, threads_);
        EXPECT_TRUE(sum.intact());
        for (int64_t i = 0; i < rows * dim; ++i) {
          ASSERT_EQ(sum[i], x[i] + y[i / dim * stride + i % dim]);
        }
      }
    }
  }
}

// An element's value does not depend on its place in the array.
TEST_P(Elementwise, SiluMulOfPartsIsTheWhole) {
  const int64_t n = 10000;
  const std::vector<float> x = normals(random_, n, 4), up = normals(random_, n);
  std::vector<float> whole = x, parts = x;
  silu_mul(whole.data(), up.data(), n, threads_);
  for (int64_t i = 0; i < n;) {
    const int64_t part = std::min(n - i, uniform(random_, 1, 50));
    silu_mul(&parts[i], &up[i], part, threads_);
    i += part;
  }
  EXPECT_TRUE(same_bits(whole, parts));
}

TEST_P(Elementwise, RopeAgreesWithFloat64) {
  for (const int dim : {16, 18, 34, 64, 80}) {
    const int half = dim / 2, heads = 3;
    const int64_t rows = 9, row = heads * dim;
    for (const int64_t stride : {half, 0}) {
      const std::vector<float> x = normals(random_, rows * row);
      std::vector<float> cos, sin;
      for (const float a : normals(random_, (stride ? rows : 1) * half, 2)) {
        cos.push_back(std::cos(a));
        sin.push_back(std::sin(a));
      }
      Guarded<float> y(rows * row);
      rope(x.data(), rows, heads, dim, cos.data(), sin.data(), stride, y.data(), threads_);
      EXPECT_TRUE(y.intact());
      std::vector<float> in_place = x;
      rope(in_place.data(), rows, heads, dim, cos.data(), sin.data(), stride, in_place.data(),
           threads_);
      for (int64_t i = 0; i < rows * row; ++i) {
        const int64_t j = i % dim;
        const double c = cos[i / row * stride + j % half], s = sin[i / row * stride + j % half];
        const double expected = j < half ? x[i] * c - x[i + half] * s : x[i] * c + x[i - half] * s;
        ASSERT_NEAR(y[i], expected, 1e-6);
        ASSERT_EQ(y[i], in_place[i]);
      }
    }
  }
}

// frequency * position modulo a whole turn, in 113 bits: the product is exact.
__float128 turn(double frequency, int64_t position) {
  const __float128 full = static_cast<__float128>(0x1.921fb54442d18p+2) + 0x1.1a62633145c07p-52;
  const __float128 angle = static_cast<__float128>(frequency) * position;
  return angle - full * static_cast<int64_t>(angle / full);
}

TEST(RopeAngles, AreExactToFloat32NearAndFar) {
  constexpr int kHalf = 32;
  std::vector<double> inv_freq;
  for (int j = 0; j < kHalf; ++j) inv_freq.push_back(std::pow(1e5, -j / double{kHalf}));
  for (const int64_t position : {int64_t{0}, int64_t{8191}, int64_t{1} << 30, int64_t{1} << 49}) {
    std::vector<float> cos(3 * kHalf), sin(3 * kHalf);
    rope_angles(inv_freq, position, 3, cos.data(), sin.data());
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < kHalf; ++j) {
        const auto angle = static_cast<double>(turn(inv_freq[j], position + i));
        const std::string what = std::to_string(position + i) + " " + std::to_string(j);
        ASSERT_NEAR(cos[i * kHalf + j], std::cos(angle), 1e-7) << what;
        ASSERT_NEAR(sin[i * kHalf + j], std::sin(angle), 1e-7) << what;
      }
    }
  }
}

}  // namespace
}  // namespace ringtide::kernels
