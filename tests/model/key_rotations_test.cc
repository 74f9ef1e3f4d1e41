// Angles of pages near and far, against the sum of a page's and a token's in double.
#include "model/key_rotations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <vector>

namespace ringtide::model {
namespace {

TEST(KeyRotations, AreThoseOfTheTokensPositions) {
  const std::vector<double> inv_freq = {1.0, 0.37, 0.0213, 1e-4};
  const auto half = static_cast<int64_t>(inv_freq.size());
  KeyRotations rotations;
  for (const int64_t tokens :
       {16, 24, 128}) {  // also where a page does not end with a step's group
    for (const int64_t number : {0, 1, 63, 64, 65, 128, 1000, 65536}) {
      kernels::KvBlock block;
      rotations.turn(block, number, tokens, inv_freq);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t j = 0; j < half; ++j) {
          const int64_t at = kernels::step_at(t, j, half);
          const std::complex<double> start(block.start.cos[j], block.start.sin[j]);
          const std::complex<double> step(block.steps.cos[at], block.steps.sin[at]);
          const double angle = static_cast<double>(number * tokens + t) * inv_freq[j];
          EXPECT_LT(std::abs(start * step - std::polar(1.0, angle)), 3e-7)
              << number << " of " << tokens << ", token " << t << ", angle " << j;
        }
    }
  }
}

TEST(KeyRotations, StayWhereTheyAre) {
  const std::vector<double> inv_freq = {1.0, 0.5};
  KeyRotations rotations;
  kernels::KvBlock first, again, other;
  rotations.turn(first, 3, 16, inv_freq);
  for (int64_t number = 0; number < 5000; ++number) rotations.turn(other, number, 16, inv_freq);
  rotations.turn(other, 3, 32, inv_freq);
  rotations.turn(again, 3, 16, inv_freq);
  EXPECT_EQ(first.start.cos, again.start.cos);
  EXPECT_EQ(first.steps.sin, again.steps.sin);
  EXPECT_NE(first.steps.cos, other.steps.cos);
}

}  // namespace
}  // namespace ringtide::model
