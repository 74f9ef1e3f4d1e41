#include "model/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ringtide::model {

std::vector<double> rope_frequencies(int head_dim, double base) {
  std::vector<double> frequencies(head_dim / 2);
  for (int j = 0; j < head_dim / 2; ++j) frequencies[j] = std::pow(base, -2.0 * j / head_dim);
  return frequencies;
}

void scale_linear(std::vector<double>& frequencies, double factor) {
  for (double& f : frequencies) f /= factor;
}

void scale_each(std::vector<double>& frequencies, std::span<const float> factors) {
  for (size_t j = 0; j < frequencies.size(); ++j) frequencies[j] /= factors[j];
}

void scale_llama3(std::vector<double>& frequencies, const Llama3Scaling& scaling) {
  for (double& f : frequencies) {
    const double turns = scaling.original_context * f / (2 * std::numbers::pi);
    const double kept = std::clamp(
        (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor),
        0.0, 1.0);
    f = kept * f + (1 - kept) * f / scaling.factor;
  }
}

}  // namespace ringtide::model
