#include "model/unit_rotations.h"

#include <algorithm>
#include <cmath>

#include "kernels/attention.h"

namespace ringtide::model {

void UnitRotations::prepare(std::span<const int64_t> units, int64_t unit_tokens,
                            std::span<const double> inv_freq) {
  const size_t half = inv_freq.size();
  if (unit_tokens != unit_tokens_) {
    unit_tokens_ = unit_tokens;
    floats_ = kernels::rotation_floats(unit_tokens, static_cast<int64_t>(half));
    units_.clear();
    within_.resize(2 * unit_tokens * half);
    for (int64_t t = 0; t < unit_tokens; ++t)
      for (size_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(t) * inv_freq[j];
        within_[(2 * t) * half + j] = std::cos(angle);
        within_[(2 * t + 1) * half + j] = std::sin(angle);
      }
  }
  if (std::ranges::equal(units, units_)) return;
  units_.assign(units.begin(), units.end());
  values_.resize(2 * floats_ * units.size());
  // By the addition theorem, in double: its error is far below float32's.
  std::vector<double> c(half), s(half);
  for (size_t i = 0; i < units.size(); ++i) {
    for (size_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(units[i] * unit_tokens) * inv_freq[j];
      c[j] = std::cos(angle);
      s[j] = std::sin(angle);
    }
    float* cos = values_.data() + 2 * i * floats_;
    for (int64_t t = 0; t < unit_tokens; ++t) {
      const double* wc = within_.data() + 2 * t * half;
      const double* ws = wc + half;
      for (size_t j = 0; j < half; ++j) {
        const int64_t at = kernels::rotation_at(t, static_cast<int64_t>(j), half);
        cos[at] = static_cast<float>(c[j] * wc[j] - s[j] * ws[j]);
        cos[floats_ + at] = static_cast<float>(s[j] * wc[j] + c[j] * ws[j]);
      }
    }
  }
}

}  // namespace ringtide::model
