// Which keys of a block a query sees, and the tiles in which keys are worked on: plain arithmetic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"

namespace ringtide::kernels {

// Keys are taken in tiles of this many tokens, counted from the block's token 0.
constexpr int kTile = 64;

struct Range {
  int64_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
  int64_t size() const { return end - begin; }
};

inline Range intersect(Range a, Range b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

// Tokens of the block that the queries [first, last] of positions see between them. For one query
// (first = last) that is exactly what it sees.
inline Range visible(const KvBlock& block, Band band, int64_t first, int64_t last) {
  constexpr int64_t kFar = int64_t{1} << 60;  // beyond any position, and safe to add
  const int64_t nearest = std::clamp(band.nearest, -kFar, kFar);
  const int64_t farthest = std::clamp(band.farthest, -kFar, kFar);
  return intersect({first - block.position - farthest, last - block.position - nearest + 1},
                   {block.begin, block.end});
}

// Tokens of tile t that take part.
inline Range tile_range(const KvBlock& block, int64_t t) {
  return intersect({t * kTile, (t + 1) * kTile}, {block.begin, block.end});
}

inline Range tiles(const KvBlock& block) {
  if (block.begin >= block.end) return {};
  return {block.begin / kTile, (block.end - 1) / kTile + 1};
}

}  // namespace ringtide::kernels
