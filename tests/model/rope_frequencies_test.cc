#include "model/rope_frequencies.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace ringtide::model {
namespace {

TEST(RopeFrequencies, FallFromOneTowardsTheBase) {
  const std::vector<double> f = rope_frequencies(64, 1e5);
  ASSERT_EQ(f.size(), 32u);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[16], std::sqrt(1e-5), 1e-15);
  EXPECT_NEAR(f[31], std::pow(1e5, -62.0 / 64), 1e-18);
}

TEST(RopeFrequencies, LinearScalingStretchesAll) {
  std::vector<double> f = rope_frequencies(8, 10000);
  scale_linear(f, 4);
  EXPECT_DOUBLE_EQ(f[0], 0.25);
  EXPECT_NEAR(f[3], 0.25e-3, 1e-18);
}

TEST(RopeFrequencies, FactorsDivideEach) {
  std::vector<double> f = {1, 0.5};
  scale_each(f, std::vector<float>{1, 8});
  EXPECT_EQ(f, (std::vector<double>{1, 0.0625}));
}

// The rule in terms of wavelengths.
TEST(RopeFrequencies, Llama3StretchesLongWavesOnly) {
  const Llama3Scaling scaling{
      .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 8192};
  const std::vector<double> before = rope_frequencies(128, 500000);
  std::vector<double> after = before;
  scale_llama3(after, scaling);
  int kept = 0, blended = 0, stretched = 0;
  for (size_t j = 0; j < before.size(); ++j) {
    const double wave = 2 * std::numbers::pi / before[j];
    if (wave < 8192.0 / 4) {
      EXPECT_DOUBLE_EQ(after[j], before[j]);
      ++kept;
    } else if (wave > 8192.0) {
      EXPECT_DOUBLE_EQ(after[j], before[j] / 8);
      ++stretched;
    } else {
      const double smooth = (8192.0 / wave - 1) / (4 - 1);
      EXPECT_NEAR(after[j], (1 - smooth) * before[j] / 8 + smooth * before[j], 1e-15);
      ++blended;
    }
  }
  EXPECT_EQ(kept, 29);
  EXPECT_EQ(blended, 6);
  EXPECT_EQ(stretched, 29);
}

}  // namespace
}  // namespace ringtide::model
