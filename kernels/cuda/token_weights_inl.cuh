// How a token's weight is counted when one is chosen: float32 weights as integers, and their sums
// over ranges of weight.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/sample.h"

namespace ringtide::kernels::cuda {

constexpr int kMassBits = 41;  // of the highest weight

// Ranges of weight, from the highest down, 16 an octave. Masses are in three limbs of 14 bits,
// added by themselves: no sum of 2^18 overflows, and no order of additions shows.
constexpr int kBins = 1024;
struct Bins {
  uint32_t count[kBins];
  uint32_t limbs[3][kBins];

  __device__ void add(int bin, uint32_t n, uint64_t mass) {
    atomicAdd(&count[bin], n);
    for (int i = 0; i < 3; ++i) {
      const uint32_t limb = static_cast<uint32_t>(mass >> (14 * i)) & ((1u << 14) - 1);
      if (limb) atomicAdd(&limbs[i][bin], limb);
    }
  }
  __device__ uint64_t mass(int bin) const {
    return limbs[0][bin] + (uint64_t{limbs[1][bin]} << 14) + (uint64_t{limbs[2][bin]} << 28);
  }
};

// How the candidates of a row are weighed.
struct Weights {
  float highest;
  double factor;  // log2(e) / temperature
  double least;   // weights below are nothing: min-p
  float bins;     // an octave's ranges, over the temperature

  __device__ Weights(const SampleRow& row, float highest)
      : highest(highest),
        factor(1.4426950408889634 / static_cast<double>(row.temperature)),
        least(row.min_p > 0.0f ? fmin(static_cast<double>(row.min_p), 1.0) : 0.0),
        bins(static_cast<float>(16 * factor)) {}

  __device__ bool candidate(float logit) const {
    return logit > -INFINITY && (logit == highest || isfinite(highest));
  }
  // Of a candidate.
  __device__ float of(float logit) const {
    if (logit == highest) return 1.0f;
    const double x = (static_cast<double>(logit) - highest) * factor;
    if (!(x > -64.0)) return 0.0f;
    const double whole = rint(x);
    const float w = ldexpf(exp2f(static_cast<float>(x - whole)), static_cast<int>(whole));
    return w >= least ? w : 0.0f;
  }
  // Never falls from a logit to a lower one.
  __device__ int bin(float logit) const {
    if (logit == highest) return 0;
    return min(kBins - 1, static_cast<int>((highest - logit) * bins));
  }
};
__device__ inline uint64_t mass(float weight) {
  return static_cast<uint64_t>(weight * static_cast<float>(1ull << kMassBits));
}
}  // namespace ringtide::kernels::cuda
