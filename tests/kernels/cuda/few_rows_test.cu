#include "kernels/cuda/matmul.h"
#include "tests/kernels/cuda/device.h"

namespace ringtide::kernels::cuda {
namespace {

struct FewRows : DeviceTest {
  struct Case {
    int64_t n, k;
  };
  int first_of(int m) { return static_cast<int>(between(random, 0, kFewRows - m)); }
  // Tiles cut at both ends, parts of k, one tile, many.
  std::vector<Case> cases = {{1, 8},       {128, 64},    {576, 576},  {1000, 72},
                             {960, 576},   {576, 1536},  {3000, 640}, {2048, 14336},
                             {20000, 256}, {4096, 4096}, {129, 8192}};
};

TEST_F(FewRows, AgreesWithDouble) {
  for (const auto& [n, k] : cases) {
    const int m = kFewRows;
    const auto x = normals_bf16(random, m * k), w = normals_bf16(random, n * k);
    Device<bf16> dx(x), dw(w), y(m * n);
    Device<float> y32(m * n), scratch(few_rows_scratch(n, k));
    scratch.zero();
    Product p{dx, dw, m, n, k, y, nullptr, Write::Replace, scratch};
    few_rows(p, nullptr);
    p.y = nullptr;
    p.y32 = y32;
    few_rows(p, nullptr);
    const auto got32 = y32.host();
    const auto got = y.host();
    std::vector<double> want;
    std::vector<float> some32;
    std::vector<bf16> some;
    for (int i = 0; i < 3000; ++i) {
      const int64_t r = between(random, 0, m - 1), c = between(random, 0, n - 1);
      double sum = 0;
      for (int64_t j = 0; j < k; ++j) sum += value(x[r * k + j]) * value(w[c * k + j]);
      want.push_back(sum);
      some32.push_back(got32[r * n + c]);
      some.push_back(got[r * n + c]);
    }
    EXPECT_LT(error(some32, want), 1e-5) << n << " x " << k;
    EXPECT_LT(error(some, want), kRounding) << n << " x " << k;
    for (const float f : got32) ASSERT_FALSE(std::isnan(f));

    p.write = Write::Add;
    few_rows(p, nullptr);
    const auto twice = y32.host();
    for (int64_t i = 0; i < m * n; ++i) ASSERT_EQ(twice[i], 2 * got32[i]);
    const auto counters = part(scratch.host(), 0, kProductCounters);
    EXPECT_TRUE(same_bits(counters, std::vector<float>(kProductCounters, 0.0f)));
  }
}

TEST_F(FewRows, ARowIsTheSameInEveryBatch) {
  for (const auto& [n, k] : cases) {
    const auto x = normals_bf16(random, kFewRows * k), w = normals_bf16(random, n * k);
    Device<bf16> dx(x), dw(w);
    Device<float> all(kFewRows * n), scratch(few_rows_scratch(n, k));
    scratch.zero();
    few_rows({dx, dw, kFewRows, n, k, nullptr, all, Write::Replace, scratch}, nullptr);
    const auto want = all.host();
    for (const int m : {1, 2, 7, 8, 9, 16, 17, 32, 33, 63}) {
      const int first = first_of(m);
      Device<float> some(m * n);
      few_rows({dx + first * k, dw, m, n, k, nullptr, some, Write::Replace, scratch}, nullptr);
      EXPECT_TRUE(same_bits(some.host(), part(want, first * n, m * n)))
          << n << " x " << k << ", " << m;
    }
  }
}

TEST_F(FewRows, GatesAreThoseOfBothProducts) {
  for (const auto& [n, k] : cases) {
    const auto x = normals_bf16(random, kFewRows * k, 0.3f), w = normals_bf16(random, 2 * n * k, 0.3f);
    Device<bf16> dx(x), dw(w), both(kFewRows * 2 * n), want(kFewRows * n), between(kFewRows * 2 * n);
    Device<float> scratch(few_rows_scratch(2 * n, k));
    scratch.zero();
    for (const Gate gate : {Gate::Silu, Gate::Gelu}) {
      for (const int m : {1, 9, 31, kFewRows}) {
        Device<bf16> got(m * n);
        gated_few_rows({dx, dw, m, n, k, gate, got, between, scratch}, nullptr);
        few_rows({dx, dw, m, 2 * n, k, both, nullptr, Write::Replace, scratch}, nullptr);
        gate_mul(both, m, n, gate, want, nullptr);
        // Both may add up parts of k that begin elsewhere.
        const auto expected = part(want.host(), 0, m * n);
        std::vector<double> values;
        for (const bf16 v : expected) values.push_back(value(v));
        EXPECT_LT(error(got.host(), values), kRounding) << n << " x " << k << ", " << m;
      }
    }
  }
}

TEST_F(FewRows, AGatedRowIsTheSameInEveryBatch) {
  for (const auto& [n, k] : cases) {
    const auto x = normals_bf16(random, kFewRows * k), w = normals_bf16(random, 2 * n * k);
    Device<bf16> dx(x), dw(w), all(kFewRows * n), between(kFewRows * 2 * n);
    Device<float> scratch(few_rows_scratch(2 * n, k));
    scratch.zero();
    gated_few_rows({dx, dw, kFewRows, n, k, Gate::Silu, all, between, scratch}, nullptr);
    const auto want = all.host();
    for (const int m : {1, 8, 9, 17, 33, 63}) {
      const int first = first_of(m);
      Device<bf16> some(m * n);
      gated_few_rows({dx + first * k, dw, m, n, k, Gate::Silu, some, between, scratch}, nullptr);
      EXPECT_TRUE(same_bits(some.host(), part(want, first * n, m * n)))
          << n << " x " << k << ", " << m;
    }
  }
}

TEST_F(FewRows, RefusesWhatItCannotDo) {
  Product p;
  p.n = 8;
  p.k = 8;
  p.m = kFewRows + 1;
  EXPECT_THROW(few_rows(p, nullptr), std::invalid_argument);
  p.m = 0;
  few_rows(p, nullptr);
}

}  // namespace
}  // namespace ringtide::kernels::cuda
