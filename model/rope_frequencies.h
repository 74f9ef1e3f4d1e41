// How fast each pair of a head turns with position, and the ways files stretch that over a longer
// context.
#pragma once

#include <span>
#include <vector>

namespace ringtide::model {

// base^(-2 j / head_dim), (head_dim / 2): radians a token.
std::vector<double> rope_frequencies(int head_dim, double base);

// Position interpolation: every frequency divided by `factor`.
void scale_linear(std::vector<double>& frequencies, double factor);

// The per-pair factors some files carry as a tensor: frequency j divided by factors[j].
void scale_each(std::vector<double>& frequencies, std::span<const float> factors);

// Llama 3's scaling. Wavelengths shorter than original_context / high_freq_factor stay, those
// longer than original_context / low_freq_factor are stretched by `factor`, and those between blend
// linearly in original_context / wavelength.
struct Llama3Scaling {
  double factor = 8;
  double low_freq_factor = 1;
  double high_freq_factor = 4;  // > low_freq_factor
  double original_context = 8192;
};
void scale_llama3(std::vector<double>& frequencies, const Llama3Scaling& scaling);

}  // namespace ringtide::model
