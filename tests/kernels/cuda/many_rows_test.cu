#include "kernels/cuda/matmul.h"
#include "kernels/cuda/weights.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

__device__ unsigned bits(float x) { return __float_as_uint(x); }
__device__ unsigned bits(bf16 x) { return __bfloat16_as_ushort(x); }

template <class T>
__global__ void count_differences(const T* a, const T* b, int64_t n, int* count) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x) {
    if (bits(a[i]) != bits(b[i])) atomicAdd(count, 1);
  }
}
// Of n values in device memory, by their bits.
template <class T>
int differences(const T* a, const T* b, int64_t n) {
  Device<int> count(1);
  count.zero();
  count_differences<<<1024, 256>>>(a, b, n, count.data());
  check_launch("count_differences");
  return count.host()[0];
}

// The error of a sum of k products, relative to its typical size. The tensor cores truncate what
// they keep: each of the k / 16 additions of 16 products takes up to 2^-23 of the sum so far, half
// of that on average and always towards 0. So the error is at most 2^-24 times the sum of all sums
// so far; of independent products of mean 0, whose sums grow as the root of their number, that is
// k / 16 / sqrt(3) of the last one.
double truncation(int64_t k) {
  constexpr double kOther = 1e-6;
  return static_cast<double>(k) / 16 / std::sqrt(3.0) * 0x1p-24 + kOther;
}

struct ManyRowsTest : DeviceTest {
  struct Case {
    int64_t n, k;
  };
  // SmolLM2's, Llama 3's and small ones; from 4096 on Hopper has a kernel of its own.
  std::vector<Case> small = {{96, 64},    {960, 576},   {576, 1536}, {3072, 576},
                             {256, 4096}, {256, 14336}, {4096, 64},  {4104, 72}};
  std::vector<Case> all = {{96, 64},     {960, 576},   {576, 1536},   {3072, 576},  {4104, 72},
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
      EXPECT_LT(error(some32, want), truncation(k)) << n << " x " << k << ", " << m;
      EXPECT_LT(error(some, want), kRounding) << n << " x " << k << ", " << m;
      for (const float f : got32) ASSERT_FALSE(std::isnan(f));

      p.write = Write::Add;
      product.run(p, nullptr);
      const auto twice = y32.host();
      for (int64_t i = 0; i < m * n; ++i) ASSERT_NEAR(twice[i], 2 * got32[i], 1e-3 * std::sqrt(k));
    }
  }
}

TEST_F(ManyRowsTest, GatesAgreeWithDouble) {
  ManyRows product;
  for (const auto& [n, k] : {Case{72, 64}, {1536, 576}, {2056, 72}, {2048, 576}}) {
    const auto w = normals_bf16(random, 2 * n * k, 0.1f);
    Device<bf16> dw(w);
    for (const Gate gate : {Gate::Silu, Gate::Gelu}) {
      for (const int m : {2, 77, 400}) {
        const auto x = normals_bf16(random, m * k);
        Device<bf16> dx(x), y(m * n), between(2 * m * n);
        product.run(GatedProduct{dx, dw, m, n, k, gate, y, between}, nullptr);
        std::vector<double> want;
        for (int r = 0; r < m; ++r)
          for (int64_t c = 0; c < n; ++c) {
            double g = 0, up = 0;
            for (int64_t j = 0; j < k; ++j) {
              g += value(x[r * k + j]) * value(w[c * k + j]);
              up += value(x[r * k + j]) * value(w[(n + c) * k + j]);
            }
            const double inner = std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g);
            const double activated =
                gate == Gate::Silu ? g / (1 + std::exp(-g)) : 0.5 * g * (1 + std::tanh(inner));
            want.push_back(up * activated);
          }
        // Rounded once, or three times where both products are written down in between.
        EXPECT_LT(error(y.host(), want), 2 * kRounding) << n << " x " << k << ", " << m;
      }
    }
  }
}

TEST_F(ManyRowsTest, AGatedRowIsTheSameInEveryBatch) {
  ManyRows product;
  constexpr int kMost = 2100;
  for (const auto& [n, k] : {Case{1536, 576}, {2056, 72}, {14336, 4096}}) {
    Device<bf16> dx(kMost * k), dw(2 * n * k), rows(kMost * n), between(2 * kMost * n);
    fill_normal(dx, kMost * k, 1, 1, nullptr);
    fill_normal(dw, 2 * n * k, 0.1f, 2, nullptr);
    product.run(GatedProduct{dx, dw, kMost, n, k, Gate::Silu, rows, between}, nullptr);
    for (const int m : {2, 128, 129, 500, 2048}) {
      const int first = static_cast<int>(random() % (kMost - m + 1));
      Device<bf16> some(m * n);
      product.run(GatedProduct{dx + first * k, dw, m, n, k, Gate::Silu, some, between}, nullptr);
      EXPECT_EQ(differences<bf16>(some, rows + first * n, m * n), 0)
          << n << " x " << k << ", " << m;
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
    for (const int m : {2, 63, 65, 128, 200, 511, 512, 1000, 2048, 3000}) {
      const int first = static_cast<int>(between(random, 0, kMost - m));
      Device<bf16> some(m * n);
      Device<float> some32(m * n);
      some32.zero();
      product.run({dx + first * k, dw, m, n, k, some, nullptr, Write::Replace, nullptr}, nullptr);
      product.run({dx + first * k, dw, m, n, k, nullptr, some32, Write::Add, nullptr}, nullptr);
      EXPECT_EQ(differences<bf16>(some, rows + first * n, m * n), 0)
          << n << " x " << k << ", " << m;
      EXPECT_EQ(differences<float>(some32, sums + first * n, m * n), 0)
          << n << " x " << k << ", " << m;
    }
  }
}

}  // namespace
}  // namespace ringtide::kernels::cuda
