#include "kernels/index_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace ringtide::kernels {
namespace {

TEST(IndexScan, DotRowsEqualsTheSumInDouble) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int64_t dim : {1, 7, 16, 64, 80, 128})
    for (int64_t n : {0, 1, 5, 64}) {
      std::vector<float> rows(n * dim), q(dim), out(n + 1, 99.0f);
      for (float& x : rows) x = normal(random);
      for (float& x : q) x = normal(random);
      dot_rows(rows.data(), n, dim, q.data(), out.data());
      for (int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < dim; ++j) sum += double{rows[i * dim + j]} * q[j];
        EXPECT_NEAR(out[i], sum, 1e-5 * static_cast<double>(dim));
      }
      EXPECT_EQ(out[n], 99.0f);
    }
}

TEST(IndexScan, SoftmaxIsADistributionOfTheRightShape) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 200);
  for (int64_t n : {0, 1, 15, 16, 17, 1000}) {
    std::vector<float> x(n + 1, 7.0f);
    for (int64_t i = 0; i < n; ++i) x[i] = normal(random);
    const std::vector<float> before = x;
    softmax(x.data(), n, 0.125f);
    double top = -1e30, total = 0;
    for (int64_t i = 0; i < n; ++i) top = std::max<double>(top, before[i]);
    for (int64_t i = 0; i < n; ++i) total += std::exp((before[i] - top) * 0.125);
    for (int64_t i = 0; i < n; ++i)
      EXPECT_NEAR(x[i], std::exp((before[i] - top) * 0.125) / total, 1e-6);
    EXPECT_EQ(x[n], 7.0f);
  }
}

}  // namespace
}  // namespace ringtide::kernels
