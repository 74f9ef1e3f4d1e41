// Random numbers without state: each is a function of a key and a counter.
//
// Philox4x32-10 of J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011),
// which CUDA's library also has, so that a device can draw the same numbers.
#pragma once

#include <array>
#include <cstdint>

namespace ringtide::model {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1), 53 random bits.
double uniform(uint64_t seed, uint64_t position);

}  // namespace ringtide::model
