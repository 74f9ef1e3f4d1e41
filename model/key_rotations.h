// Rotations of the keys of pages and units at their true places: of each one's first token, and of
// the tokens behind it, which all have in common. A token's angle is the sum of both.
//
// Takes head_dim * 4 bytes for a page's first token, in groups that are kept: 2 MiB for a million
// tokens in pages of 128 of a model whose head_dim is 64.
//
// One thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kernels/attention.h"

namespace ringtide::model {

class KeyRotations {
 public:
  // Makes the block, page `number` of pages of `tokens`, turn by its place. Pointers stay good as
  // long as this does. `inv_freq`: always the same.
  void turn(kernels::KvBlock& block, int64_t number, int64_t tokens,
            std::span<const double> inv_freq);

 private:
  // Cosines, then sines.
  using Angles = std::vector<float>;
  struct OfLength {
    Angles steps;
    std::map<int64_t, Angles> starts;  // by group
  };
  std::map<int64_t, OfLength> lengths_;
};

}  // namespace ringtide::model
