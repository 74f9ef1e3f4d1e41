// A decode step over keys and values that lie on the shards of a ring: every shard attends to its
// part, and one exchange gives all partial results to all. They are merged in the order of the
// shards, so every shard has the same bits.
#pragma once

#include <vector>

#include "kernels/attention.h"
#include "kernels/ring/transport.h"

namespace ringtide::kernels::ring {

// One query of one sequence.
struct DecodeRow {
  int64_t position = 0;
  std::span<const KvBlock> blocks;  // of this shard; may be empty
  Band band;
};

class Decode {
 public:
  Decode(const HeadShape& shape, int shards) : shape_(shape), shards_(shards) {}

  // q (rows, heads, head_dim), rotated, the same on every shard. Writes o, as q, and lse (rows,
  // heads). Takes one number of the transport. Throws RingError.
  void run(std::span<const DecodeRow> rows, const float* q, float scale, float* o, float* lse,
           uint64_t number, Transport& transport, ThreadPool& threads);

 private:
  HeadShape shape_;
  int shards_;
  std::vector<float> mine_, all_;  // o, then lse
};

}  // namespace ringtide::kernels::ring
