#include "kernels/cuda/matmul.h"
#include "kernels/cuda/weights.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct ManyRowsTest : DeviceTest {
  struct Case {
    int64_t n, k;
  };
  // SmolLM2's, Llama 3's and small ones.
  std::vector<Case> small = {{96, 64}, {960, 576}, {576, 1536}, {3072, 576}, {256, 14336}};
  std::vector<Case> all = {{96, 64},     {960, 576},   {576, 1536},   {3072, 576},
                           {6144, 4096}, {4096, 4096}, {4096, 14336}, {28672, 4096}};
};

TEST_F(ManyRowsTest, AgreesWithDouble) {
  ManyRows product;
  for (const auto& [n, k] : small) {
    const auto w = normals_bf16(random, n * k);
    for (const int m : {2, 77, 512}) {
      const auto x = normals_bf16(random, m * k);
      Device<bf16> dx(x), dw(w), y(m * n);
      Device<float> y32(m * n);
      Product p{dx, dw, m, n, k, y, nullptr, Write::Replace, nullptr};
      product.run(p, nullptr);
      p.y = nullptr;
      p.y32 = y32;
      product.run(p, nullptr);
      const auto got32 = y32.host();
      const auto got = y.host();
      std::vector<double> want;
      std::vector<float> some32;
      std::vector<bf16> some;
      for (int i = 0; i < 1000; ++i) {
        const int64_t r = between(random, 0, m - 1), c = between(random, 0, n - 1);
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += value(x[r * k + j]) * value(w[c * k + j]);
        want.push_back(sum);
        some32.push_back(got32[r * n + c]);
        some.push_back(got[r * n + c]);
      }
      EXPECT_LT(error(some32, want), 1e-5) << n << " x " << k << ", " << m;
      EXPECT_LT(error(some, want), kRounding) << n << " x " << k << ", " << m;
      for (const float f : got32) ASSERT_FALSE(std::isnan(f));

      p.write = Write::Add;
      product.run(p, nullptr);
      const auto twice = y32.host();
      for (int64_t i = 0; i < m * n; ++i) ASSERT_NEAR(twice[i], 2 * got32[i], 1e-3 * std::sqrt(k));
    }
  }
}

// Whatever is multiplied beside it, and wherever it lies among that.
TEST_F(ManyRowsTest, ARowIsTheSameInEveryBatch) {
  ManyRows product;
  constexpr int kMost = 4096;
  for (const auto& [n, k] : all) {
    Device<bf16> dx(kMost * k), dw(n * k), rows(kMost * n);
    Device<float> sums(kMost * n);
    fill_normal(dx, kMost * k, 1, 1, nullptr);
    fill_normal(dw, n * k, 1, 2, nullptr);
    product.run({dx, dw, kMost, n, k, rows, nullptr, Write::Replace, nullptr}, nullptr);
    sums.zero();
    product.run({dx, dw, kMost, n, k, nullptr, sums, Write::Add, nullptr}, nullptr);
    const auto want = rows.host();
    const auto want32 = sums.host();
    for (const int m : {2, 63, 65, 128, 200, 511, 512, 1000, 2048, 3000}) {
      const int first = static_cast<int>(between(random, 0, kMost - m));
      Device<bf16> some(m * n);
      Device<float> some32(m * n);
      some32.zero();
      product.run({dx + first * k, dw, m, n, k, some, nullptr, Write::Replace, nullptr}, nullptr);
      product.run({dx + first * k, dw, m, n, k, nullptr, some32, Write::Add, nullptr}, nullptr);
      EXPECT_TRUE(same_bits(some.host(), part(want, first * n, m * n))) << n << " x " << k << ", " << m;
      EXPECT_TRUE(same_bits(some32.host(), part(want32, first * n, m * n)))
          << n << " x " << k << ", " << m;
    }
  }
}

}  // namespace
}  // namespace ringtide::kernels::cuda
