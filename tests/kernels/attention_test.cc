#include "kernels/attention.h"

#include <cmath>

#include "tests/kernels/support.h"

namespace ringtide::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Result {
  std::vector<float> o, lse;
  bool operator==(const Result& r) const { return same_bits(o, r.o) && same_bits(lse, r.lse); }
};

Result run(const HeadShape& shape, const std::vector<float>& q, int64_t position,
           std::span<const KvBlock> blocks, Band band, ThreadPool& threads) {
  const int64_t m = q.size() / (shape.heads * shape.head_dim);
  Guarded<float> o(q.size()), lse(m * shape.heads);
  attend(shape, q.data(), position, m, blocks, band, 0.25f, o.data(), lse.data(), threads);
  EXPECT_TRUE(o.intact() && lse.intact());
  return {{o.data(), o.data() + q.size()}, {lse.data(), lse.data() + m * shape.heads}};
}

// Float32 sums of a few thousand terms and exp to 5e-7: 2e-5 of the values' size, for either
// KvType, since the reference reads the same stored keys.
void expect_near(const Result& result, const SlowResult& slow, const std::string& what) {
  ASSERT_EQ(result.o.size(), slow.o.size());
  for (size_t i = 0; i < result.lse.size(); ++i) {
    if (std::isinf(slow.lse[i])) {
      ASSERT_EQ(result.lse[i], -kInf) << what << " lse " << i;
    } else {
      ASSERT_NEAR(result.lse[i], slow.lse[i], 1e-5 * (1 + std::abs(slow.lse[i]))) << what;
    }
  }
  for (size_t i = 0; i < result.o.size(); ++i) {
    ASSERT_NEAR(result.o[i], slow.o[i], 2e-5) << what << " o " << i;
  }
}

// A list like a session's: sinks, units, a window, with gaps, empty blocks and begin == end.
std::vector<TestBlock> random_blocks(Random& random, const HeadShape& shape, int count) {
  std::vector<TestBlock> blocks;
  for (int i = 0; i < count; ++i) {
    BlockSpec spec;
    spec.type = random() % 2 ? KvType::F16 : KvType::F32;
    spec.capacity = static_cast<int32_t>(uniform(random, 1, 260));
    spec.begin = static_cast<int32_t>(uniform(random, 0, spec.capacity));
    spec.end = static_cast<int32_t>(uniform(random, spec.begin, spec.capacity));
    if (random() % 3 == 0) spec.begin = 0, spec.end = spec.capacity;
    spec.position = uniform(random, 0, 600);
    spec.rotated = random() % 2;
    blocks.push_back(make_block(random, shape, spec));
  }
  return blocks;
}

Band random_band(Random& random) {
  switch (random() % 4) {
    case 0:
      return {};
    case 1:
      return {uniform(random, 0, 200), uniform(random, 100, 400)};
    case 2:  // every key, wherever it stands
      return {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
    default:
      return {uniform(random, -50, 50), uniform(random, 0, 1000)};
  }
}

class Attend : public EachTarget {
 protected:
  Random random_{11};
  ThreadPool threads_{2};
};
RINGTIDE_EACH_TARGET(Attend);

TEST_P(Attend, AgreesWithFloat64) {
  const HeadShape shapes[] = {{1, 1, 16},  {2, 2, 18}, {3, 1, 64},  {4, 2, 80}, {4, 1, 96},
                              {8, 1, 128}, {9, 3, 64}, {2, 1, 256}, {6, 3, 34}, {2, 1, 22}};
  for (const HeadShape& shape : shapes) {
    for (const int64_t m : {1, 2, 5, 40}) {
      const auto blocks = random_blocks(random_, shape, static_cast<int>(uniform(random_, 0, 5)));
      const std::vector<float> q = normals(random_, m * shape.heads * shape.head_dim);
      const int64_t position = uniform(random_, 0, 1000);
      const Band band = random_band(random_);
      const Result result = run(shape, q, position, blocks_of(blocks), band, threads_);
      expect_near(result, slow_attend(shape, q, position, m, blocks, band, 0.25f),
                  "head_dim " + std::to_string(shape.head_dim) + " m " + std::to_string(m));
      if (HasFatalFailure()) return;
    }
  }
}

// Long lists are cut into segments; a block may lie across a cut.
TEST_P(Attend, AgreesWithFloat64OverManyKeys) {
  const HeadShape shape{3, 1, 32};
  std::vector<TestBlock> blocks;
  blocks.push_back(make_block(random_, shape, {KvType::F16, 900, 3, 897, 0, true}));
  blocks.push_back(make_block(random_, shape, {KvType::F16, 1700, 0, 1650, 900, true}));
  for (const int64_t m : {1, 90}) {
    const std::vector<float> q = normals(random_, m * 96);
    const Result result = run(shape, q, 2500, blocks_of(blocks), {}, threads_);
    expect_near(result, slow_attend(shape, q, 2500, m, blocks, {}, 0.25f), "m");
  }
}

TEST_P(Attend, AQueryDependsOnNothingButItself) {
  for (const HeadShape shape : {HeadShape{6, 2, 64}, HeadShape{1, 1, 18}, HeadShape{8, 1, 80}}) {
    auto blocks = random_blocks(random_, shape, 9);
    blocks.push_back(make_block(random_, shape, {KvType::F16, 1200, 5, 1190, 0, true}));
    const auto list = blocks_of(blocks);
    const Band band{0, 700};
    const int64_t m = 150, row = shape.heads * shape.head_dim;
    const std::vector<float> q = normals(random_, m * row);
    const Result whole = run(shape, q, 500, list, band, threads_);
    for (int threads = 1; threads <= 4; ++threads) {
      ThreadPool pool(threads);
      ASSERT_EQ(run(shape, q, 500, list, band, pool), whole) << threads << " threads";
      for (int64_t i = 0; i < m;) {
        const int64_t part = std::min(m - i, uniform(random_, 1, i % 2 ? 4 : 70));
        const Result r = run(shape, {q.begin() + i * row, q.begin() + (i + part) * row}, 500 + i,
                             list, band, pool);
        const auto slice = [](const std::vector<float>& v, int64_t begin, int64_t end) {
          return std::vector<float>(v.begin() + begin, v.begin() + end);
        };
        ASSERT_TRUE(same_bits(r.o, slice(whole.o, i * row, (i + part) * row))) << part;
        ASSERT_TRUE(same_bits(r.lse, slice(whole.lse, i * shape.heads, (i + part) * shape.heads)));
        i += part;
      }
    }
  }
}

TEST_P(Attend, ToNothingGivesNoWeight) {
  const HeadShape shape{4, 2, 32};
  const std::vector<float> q = normals(random_, 3 * 128);
  const Result nothing{std::vector<float>(3 * 128, 0), std::vector<float>(12, -kInf)};
  EXPECT_EQ(run(shape, q, 10, {}, {}, threads_), nothing);
  const TestBlock empty = make_block(random_, shape, {KvType::F32, 8, 5, 5, 0, true});
  EXPECT_EQ(run(shape, q, 10, {&empty.block, 1}, {}, threads_), nothing);
  const TestBlock later = make_block(random_, shape, {KvType::F16, 8, 0, 8, 100, false});
  EXPECT_EQ(run(shape, q, 10, {&later.block, 1}, {}, threads_), nothing);
  // Nearer than the band allows to, and nothing at all inside an inverted band.
  EXPECT_EQ(run(shape, q, 100, {&later.block, 1}, {50, 60}, threads_), nothing);
  EXPECT_EQ(run(shape, q, 100, {&later.block, 1}, {5, 4}, threads_), nothing);
  attend(shape, nullptr, 0, 0, {}, {}, 1, nullptr, nullptr, threads_);
}

// Queries of one batch that see nothing stand beside some that do.
TEST_P(Attend, SomeQueriesSeeNothing) {
  const HeadShape shape{2, 1, 32};
  std::vector<TestBlock> blocks;
  blocks.push_back(make_block(random_, shape, {KvType::F32, 40, 0, 40, 20, false}));
  const std::vector<float> q = normals(random_, 60 * 64);
  const Result result = run(shape, q, 0, blocks_of(blocks), {0, 15}, threads_);
  expect_near(result, slow_attend(shape, q, 0, 60, blocks, {0, 15}, 0.25f), "band");
  EXPECT_EQ(result.lse[0], -kInf);
  EXPECT_NE(result.lse[2 * 30], -kInf);
}

TEST_P(Attend, StandsLargeLogits) {
  const HeadShape shape{1, 1, 16};
  std::vector<TestBlock> blocks;
  blocks.push_back(make_block(random_, shape, {KvType::F32, 130, 0, 130, 0, false}));
  const std::vector<float> q = normals(random_, 4 * 16, 1000);
  const SlowResult slow = slow_attend(shape, q, 500, 4, blocks, {}, 0.25f);
  const Result result = run(shape, q, 500, blocks_of(blocks), {}, threads_);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(result.lse[i] / slow.lse[i], 1, 1e-6);
  for (size_t i = 0; i < result.o.size(); ++i) EXPECT_NEAR(result.o[i], slow.o[i], 1e-2);
}

}  // namespace
}  // namespace ringtide::kernels
