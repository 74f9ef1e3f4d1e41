#include <cmath>

#include "kernels/attention.h"
#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

class ColumnLogits : public EachTarget {
 protected:
  Random random_{17};
  ThreadPool threads_{2};
};
RINGTIDE_EACH_TARGET(ColumnLogits);

TEST_P(ColumnLogits, AgreeWithFloat64) {
  for (const HeadShape shape : {HeadShape{9, 3, 64}, HeadShape{2, 2, 18}, HeadShape{8, 1, 80}}) {
    for (const KvType type : {KvType::F32, KvType::F16}) {
      for (const int64_t m : {1, 3, 50}) {
        const TestBlock b = make_block(random_, shape, {type, 150, 3, 140, 10, m != 3});
        const std::vector<float> q = normals(random_, m * shape.heads * shape.head_dim);
        const Band band{uniform(random_, 0, 20), uniform(random_, 30, 100)};
        const int64_t position = uniform(random_, 0, 200);
        const std::vector<float> before = normals(random_, shape.heads * 150);
        std::vector<float> sums = before;
        column_logits(shape, q.data(), position, m, b.block, band, 0.5f, sums.data(), threads_);
        for (int h = 0; h < shape.heads; ++h) {
          for (int t = 0; t < 150; ++t) {
            double expected = before[h * 150 + t], magnitude = std::abs(expected);
            bool seen = false;
            for (int64_t i = 0; i < m; ++i) {
              if (!sees(b, t, position + i, band)) continue;
              seen = true;
              const double logit = slow_logit(shape, &q[(i * shape.heads + h) * shape.head_dim], b,
                                              h / (shape.heads / shape.kv_heads), t, 0.5f);
              expected += logit;
              magnitude += std::abs(logit);
            }
            if (seen) {
              ASSERT_NEAR(sums[h * 150 + t], expected, 1e-5 * (1 + magnitude));
            } else {
              ASSERT_EQ(sums[h * 150 + t], before[h * 150 + t]);
            }
          }
        }
      }
    }
  }
}

TEST_P(ColumnLogits, DoNotDependOnHowQueriesAreGrouped) {
  const HeadShape shape{4, 2, 32};
  const TestBlock b = make_block(random_, shape, {KvType::F16, 200, 0, 200, 0, true});
  const int64_t m = 64, row = 128;
  const std::vector<float> q = normals(random_, m * row);
  std::vector<float> whole(4 * 200, 0);
  column_logits(shape, q.data(), 100, m, b.block, {}, 1, whole.data(), threads_);
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    std::vector<float> sums(4 * 200, 0);
    for (int64_t i = 0; i < m;) {
      const int64_t part = std::min(m - i, uniform(random_, 1, 20));
      column_logits(shape, &q[i * row], 100 + i, part, b.block, {}, 1, sums.data(), pool);
      i += part;
    }
    ASSERT_TRUE(same_bits(sums, whole));
  }
}

TEST_P(ColumnLogits, OfNothingChangeNothing) {
  const HeadShape shape{2, 1, 32};
  const TestBlock b = make_block(random_, shape, {KvType::F16, 20, 7, 7, 0, false});
  const std::vector<float> q = normals(random_, 64);
  std::vector<float> sums(40, 3);
  column_logits(shape, q.data(), 100, 1, b.block, {}, 1, sums.data(), threads_);
  column_logits(shape, q.data(), 100, 0, b.block, {}, 1, sums.data(), threads_);
  EXPECT_EQ(sums, std::vector<float>(40, 3));
}

}  // namespace
}  // namespace ringtide::kernels
