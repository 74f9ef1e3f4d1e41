// A decode step over keys and values that lie on the GPUs of a ring: every shard attends to its
// part; the partial results are exchanged and merged (ring_merge.h).
#pragma once

#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ring_link.h"

namespace ringtide::kernels::cuda {

struct RingDecode {
  // The shard's part. o, o32 and lse of it are not used.
  DecodeAttention local;
  float* part = nullptr;  // ring_part_floats() floats
  bf16* o = nullptr;      // (rows, heads, head_dim)
  float* lse = nullptr;   // (rows, heads); may be null
};
void ring_decode(const RingDecode& a, RingLink& link, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
