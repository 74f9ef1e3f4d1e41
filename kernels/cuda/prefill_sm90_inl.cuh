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
  int32_t item = 0;
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
          __shfl_sync(~0u, note.high, from), __shfl_sync(~0u, note.item, from)};
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

// A tile of queries of one head, by its number. Those of the latest positions come first, since
// they see the most. Heads run innermost: blocks that run together read the same keys.
struct Item {
  int tile, head;
  __device__ Item(const PrefillAttention& a, int queries_of_tile, int number)
      : tile((a.m + queries_of_tile - 1) / queries_of_tile - 1 - number / a.shape.heads),
        head(number % a.shape.heads) {}
};

// Which items a block does: the next that nobody has taken or, dealt beforehand, to and fro among
// the blocks so that the sums come out even. All lanes of one warp ask.
class Deal {
 public:
  __device__ explicit Deal(int32_t* work) : work_(work) {}
  // Numbers beyond the last item: there is none.
  __device__ int next() {
    if (work_) {
      int item = 0;
      if (threadIdx.x % 32 == 0) item = atomicAdd(work_, 1);
      return __shfl_sync(~0u, item, 0);
    }
    const int blocks = gridDim.x, block = blockIdx.x, round = round_++;
    return round * blocks + (round % 2 ? blocks - 1 - block : block);
  }
  // After the last: whichever block is the last one leaves the numbers zero.
  __device__ void close() {
    if (!work_ || threadIdx.x % 32 != 0) return;
    if (atomicAdd(work_ + 1, 1) != static_cast<int>(gridDim.x) - 1) return;
    work_[0] = 0;
    work_[1] = 0;
  }

 private:
  int round_ = 0;
  int32_t* work_;
};

struct PrefillMaps {
  CUtensorMap q_near, q_far, arena;
};

}  // namespace ringtide::kernels::cuda
