// Rotations of the keys of units at their true places, for as many units as one partial result
// attends to: memory does not grow with the context.
//
// One thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ringtide::model {

class UnitRotations {
 public:
  // Makes cos and sin of the units with these numbers, which hold until the next call; repeated
  // with the same ones it does nothing. `inv_freq`: always the same.
  void prepare(std::span<const int64_t> units, int64_t unit_tokens,
               std::span<const double> inv_freq);
  // Of units[i]: as kernels' KvBlock has them.
  const float* cos(size_t i) const { return values_.data() + 2 * i * floats_; }
  const float* sin(size_t i) const { return cos(i) + floats_; }

 private:
  int64_t unit_tokens_ = 0, floats_ = 0;
  std::vector<int64_t> units_;
  std::vector<double>
      within_;  // cos and sin of each place in a unit, (unit_tokens, 2, head_dim / 2)
  std::vector<float> values_;
};

}  // namespace ringtide::model
