// Attention over keys and values that lie on the shards of a ring: every shard finds its part of
// every row's result, all parts go to all shards, and each merges them in the order of the shards, in
// float32: the same bits everywhere.
#pragma once

#include <cstdint>

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

// Of (o, lse) in float32, as attention makes them.
struct RingMerge {
  Heads shape;
  int32_t rows = 0;
  const float* o = nullptr;     // (rows, heads, head_dim): this shard's part
  const float* lse = nullptr;   // (rows, heads)
  bf16* merged = nullptr;       // (rows, heads, head_dim)
  float* merged_lse = nullptr;  // (rows, heads); may be null
  RINGTIDE_HOST_DEVICE int64_t queries() const { return int64_t{rows} * shape.heads; }
};
// Floats of a part as it travels: o, then lse.
constexpr int64_t ring_part_floats(const Heads& shape, int64_t rows) {
  return rows * shape.heads * (shape.head_dim + 1);
}

// Merges parts that are here, of all shards one after the other. The part in `a` is not read.
void merge_parts(const float* parts, int shards, const RingMerge& a, cudaStream_t stream);

// The memory through which the GPUs of one host exchange parts, as one of them reaches it.
constexpr int kMostPeers = 16;
constexpr int kPeerBlocks = 64;  // thread blocks of an exchange
struct PeerParts {
  int shard = 0, shards = 1;
  int64_t floats = 0;             // of the largest part
  float* inbox[kMostPeers] = {};  // of each shard: (2, shards, floats)
  // Of each shard, (kPeerBlocks, shards): the latest exchange that each peer's block has written.
  uint32_t* came[kMostPeers] = {};
  uint32_t* turn = nullptr;  // own, (kPeerBlocks + 1): exchanges so far; last: not 0: gave up
  int32_t* over = nullptr;   // of the host: not 0: the ring is over
  int64_t deadline_ns = 0;   // of a wait for peers
};
// Writes the part into the peers' memory, waits for theirs and merges, all in one kernel: nothing
// of it is read on the host, so it can be captured in a graph and launched again. All shards
// enqueue the same exchanges in the same order. A wait that outlasts the deadline, or a ring that
// is over, ends the kernel with nothing written; `over` says so.
void exchange_parts(const PeerParts& peers, const RingMerge& a, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
