// A decode step over keys and values that lie on the GPUs of a ring: every shard attends to its
// part, one exchange gives all partial results, in float32, to all, and each merges them in the
// order of the shards: the same bits on every shard.
#pragma once

#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ring_link.h"

namespace ringtide::kernels::cuda {

struct RingDecode {
  // The shard's part. o, o32 and lse of it are not used.
  DecodeAttention local;
  float* exchange = nullptr;  // ring_decode_floats() floats
  bf16* o = nullptr;          // (rows, heads, head_dim)
  float* lse = nullptr;       // (rows, heads); may be null
};
int64_t ring_decode_floats(const Heads& shape, int32_t rows, int shards);

// Takes one number of the link.
void ring_decode(const RingDecode& a, uint64_t number, RingLink& link, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
