#include <algorithm>
#include <cmath>

#include "kernels/attention.h"
#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class Merge : public EachTarget {
 protected:
  Random random_{13};
  ThreadPool threads_{2};
};
RINGTIDE_EACH_TARGET(Merge);

struct Partial {
  std::vector<float> o, lse;
};

TEST_P(Merge, OfPartsIsTheWholeInAnyOrder) {
  const HeadShape shape{6, 2, 48};
  const int64_t m = 20, position = 400;
  for (int round = 0; round < 5; ++round) {
    std::vector<TestBlock> blocks;
    for (int i = 0; i < 5; ++i) {
      const auto n = static_cast<int32_t>(uniform(random_, 1, 150));
      const int64_t at = uniform(random_, 0, 500);
      blocks.push_back(make_block(random_, shape, {KvType::F16, n, 0, n, at, true}));
    }
    const std::vector<float> q = normals(random_, m * 6 * 48);
    const SlowResult whole = slow_attend(shape, q, position, m, blocks, {}, 0.125f);
    std::vector<Partial> parts(blocks.size());
    for (size_t i = 0; i < blocks.size(); ++i) {
      parts[i] = {std::vector<float>(q.size()), std::vector<float>(m * 6)};
      attend(shape, q.data(), position, m, {&blocks[i].block, 1}, {}, 0.125f, parts[i].o.data(),
             parts[i].lse.data(), threads_);
    }
    std::shuffle(parts.begin(), parts.end(), random_);
    // ((0 + 1) + (2 + (3 + 4)))
    const auto into = [&](size_t a, size_t b) {
      merge(parts[a].o.data(), parts[a].lse.data(), parts[b].o.data(), parts[b].lse.data(), m * 6,
            48, threads_);
    };
    into(0, 1), into(3, 4), into(2, 3), into(0, 2);
    for (size_t i = 0; i < q.size(); ++i) ASSERT_NEAR(parts[0].o[i], whole.o[i], 2e-5);
    for (size_t i = 0; i < whole.lse.size(); ++i) {
      if (std::isinf(whole.lse[i])) {
        ASSERT_EQ(parts[0].lse[i], -kInf);
      } else {
        ASSERT_NEAR(parts[0].lse[i], whole.lse[i], 1e-5);
      }
    }
  }
}

TEST_P(Merge, WithNothingChangesNothing) {
  const std::vector<float> o = normals(random_, 7 * 20), lse = normals(random_, 7);
  Partial some{o, lse};
  Partial none{std::vector<float>(7 * 20, 0), std::vector<float>(7, -kInf)};
  merge(some.o.data(), some.lse.data(), none.o.data(), none.lse.data(), 7, 20, threads_);
  EXPECT_TRUE(same_bits(some.o, o) && same_bits(some.lse, lse));
  const Partial empty = none;
  merge(none.o.data(), none.lse.data(), empty.o.data(), empty.lse.data(), 7, 20, threads_);
  EXPECT_TRUE(same_bits(none.o, empty.o) && same_bits(none.lse, empty.lse));
  merge(none.o.data(), none.lse.data(), some.o.data(), some.lse.data(), 7, 20, threads_);
  EXPECT_TRUE(same_bits(none.o, o) && same_bits(none.lse, lse));
  merge(nullptr, nullptr, nullptr, nullptr, 0, 20, threads_);
}

TEST_P(Merge, FarApartKeepsTheGreater) {
  std::vector<float> o(18, 1), lse(1, 1000);
  const std::vector<float> o2(18, 2), lse2(1, -1000);
  merge(o.data(), lse.data(), o2.data(), lse2.data(), 1, 18, threads_);
  EXPECT_EQ(o, std::vector<float>(18, 1));
  EXPECT_EQ(lse[0], 1000);
}

}  // namespace
}  // namespace ringtide::kernels
