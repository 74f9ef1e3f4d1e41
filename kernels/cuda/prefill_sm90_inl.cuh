// What producer and consumers of the Hopper prefill kernel share.
//
// The ring carries K0, K1, V0, K2, V1, ...: a tile's values follow the next tile's keys, also from
// one tile of queries to the next. A marker, a slot without data in the place of keys, stands for a
// tile of queries that sees nothing, and for the end.
#pragma once

#include <algorithm>

#include "kernels/cuda/hopper_inl.cuh"
#include "kernels/cuda/prefill_attention_paths.h"

namespace ringtide::kernels::cuda {

constexpr int kKeys = kTmaUnit;  // of a tile
constexpr int kSharedBytes = 227 * 1024;

enum : uint32_t {
  kFirst = 1,    // of the keys that a tile of queries sees
  kQueries = 2,  // new queries come for this tile and those after it
  kPartial = 4,  // some query does not see some token
  kNothing = 8,  // marker: a tile of queries that sees nothing
  kOver = 16,    // marker: the end
};
// What the consumers know of a tile of keys: query i of the tile of queries sees its token j where
// max(begin, low + i) <= j < min(end, high + i).
struct __align__(16) TileNote {
  int32_t packed = 0;  // begin, end: 8 bits each; flags
  int32_t low = 0, high = 0;
  __device__ int32_t begin() const { return packed & 0xff; }
  __device__ int32_t end() const { return packed >> 8 & 0xff; }
  __device__ bool has(uint32_t flags) const { return packed >> 16 & flags; }
};
__device__ inline int32_t pack_note(int32_t begin, int32_t end, uint32_t flags) {
  return begin | end << 8 | static_cast<int32_t>(flags << 16);
}

// What lane `from` has.
__device__ inline TileNote shuffle(const TileNote& note, int from) {
  return {__shfl_sync(~0u, note.packed, from), __shfl_sync(~0u, note.low, from),
          __shfl_sync(~0u, note.high, from)};
}

template <int kHeadDim, int kGroups>
struct __align__(1024) PrefillShared {
  static constexpr int kQueriesOfTile = 64 * kGroups;
  static constexpr int kQueryBytes = kQueriesOfTile * kHeadDim * 2;
  static constexpr int kTileBytes = kKeys * kHeadDim * 2;
  static constexpr int kSlots = std::min((kSharedBytes - 2048 - kQueryBytes) / kTileBytes, 8);

  unsigned char q[kQueryBytes];
  unsigned char kv[kSlots][kTileBytes];
  TileNote note[kSlots];
  Barrier full[kSlots], empty[kSlots];
  Barrier q_full, q_empty;
  Barrier landed;  // of ragged values
};

template <int kSlots>
struct Ring {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++slot == kSlots) slot = 0, parity ^= 1;
  }
};

// Tiles of queries of one head each: those of the latest positions first, since they see the most,
// and dealt to and fro among the blocks so that the sums come out even. Heads run innermost: blocks
// that run together read the same keys.
class Deal {
 public:
  __device__ Deal(int tiles, int heads) : tiles_(tiles), heads_(heads) { settle(); }
  __device__ bool more() const { return item_ < tiles_ * heads_; }
  __device__ void advance() {
    ++round_;
    settle();
  }
  __device__ Deal next() const {
    Deal next = *this;
    next.advance();
    return next;
  }
  __device__ int tile() const { return tiles_ - 1 - item_ / heads_; }
  __device__ int head() const { return item_ % heads_; }

 private:
  __device__ void settle() {
    const int blocks = gridDim.x, block = blockIdx.x;
    item_ = round_ * blocks + (round_ % 2 ? blocks - 1 - block : block);
  }
  int tiles_, heads_, round_ = 0, item_ = 0;
};

struct PrefillMaps {
  CUtensorMap q_near, q_far, arena;
};

}  // namespace ringtide::kernels::cuda
