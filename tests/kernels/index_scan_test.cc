#include "kernels/index_scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace ringtide::kernels {
namespace {

TEST(IndexScan, DotsEqualTheSumsInDouble) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (KvType type : {KvType::F32, KvType::F16})
    for (int heads : {1, 3})
      for (int64_t dim : {1, 7, 16, 64, 80, 128})
        for (int64_t n : {0, 1, 5, 64}) {
          const int64_t size = n * heads * dim, stride = n + 2;
          std::vector<float> rows(size), q(heads * dim), out(heads * stride, 99.0f);
          for (float& x : rows) x = normal(random);
          for (float& x : q) x = normal(random);
          std::vector<std::byte> stored(size * kv_bytes(type));
          to_kv(type, rows.data(), size, stored.data());
          from_kv(type, stored.data(), size, rows.data());
          for (const bool add : {false, true}) {
            dot_heads(type, stored.data(), n, heads, dim, q.data(), add, out.data(), stride);
            for (int h = 0; h < heads; ++h) {
              for (int64_t i = 0; i < n; ++i) {
                double sum = 0;
                for (int64_t j = 0; j < dim; ++j)
                  sum += double{rows[(i * heads + h) * dim + j]} * q[h * dim + j];
                EXPECT_NEAR(out[h * stride + i], add ? 2 * sum : sum,
                            1e-5 * static_cast<double>(dim));
              }
              EXPECT_EQ(out[h * stride + n], 99.0f);
            }
          }
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
