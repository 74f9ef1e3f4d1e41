#include "model/key_rotations.h"

#include "kernels/elementwise.h"

namespace ringtide::model {
namespace {

// Pages whose first tokens' angles are made at once.
constexpr int64_t kGroup = 64;

std::vector<float> steps(int64_t tokens, std::span<const double> inv_freq) {
  const auto half = static_cast<int64_t>(inv_freq.size());
  std::vector<float> cos(tokens * half), sin(cos.size());
  kernels::rope_angles(inv_freq, 0, tokens, cos.data(), sin.data());
  const int64_t floats = kernels::step_floats(tokens, half);
  std::vector<float> angles(2 * floats);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < half; ++j) {
      const int64_t at = kernels::step_at(t, j, half);
      angles[at] = cos[t * half + j];
      angles[floats + at] = sin[t * half + j];
    }
  return angles;
}

std::vector<float> starts(int64_t first, int64_t tokens, std::span<const double> inv_freq) {
  const auto half = static_cast<int64_t>(inv_freq.size());
  std::vector<float> angles(2 * kGroup * half);
  for (int64_t i = 0; i < kGroup; ++i) {
    float* cos = angles.data() + i * half;
    kernels::rope_angles(inv_freq, (first + i) * tokens, 1, cos, cos + kGroup * half);
  }
  return angles;
}

}  // namespace

void KeyRotations::turn(kernels::KvBlock& block, int64_t number, int64_t tokens,
                        std::span<const double> inv_freq) {
  const auto half = static_cast<int64_t>(inv_freq.size());
  OfLength& of = lengths_[tokens];
  if (of.steps.empty()) of.steps = steps(tokens, inv_freq);
  const int64_t group = number / kGroup;
  Angles& angles = of.starts[group];
  if (angles.empty()) angles = starts(group * kGroup, tokens, inv_freq);
  block.start.cos = angles.data() + number % kGroup * half;
  block.start.sin = block.start.cos + kGroup * half;
  block.steps.cos = of.steps.data();
  block.steps.sin = block.steps.cos + kernels::step_floats(tokens, half);
}

}  // namespace ringtide::model
