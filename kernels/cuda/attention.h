// Attention of queries over lists of blocks in the arena: (O, LSE) of the union of all lists.
//
// The near list is seen by the near queries through the near band; the far list and the units by the
// far queries through the far band. One softmax runs over everything a query sees. LSE is the
// natural logarithm, float32; a query that sees nothing has O = 0 and LSE = -inf.
//
// A query's result depends on its own vectors, its position and the lists alone, bit for bit: not on
// the other queries of the call, nor on what ran before.
#pragma once

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

struct Lists {
  KvList near, far, units;
};

constexpr int kPositionRun = 128;

// Many queries of one sequence: query i stands at position + i. Keys and values of tokens that take
// part must be finite; those that do not may be anything.
struct PrefillAttention {
  Heads shape;
  int unit = 0;  // tokens of a plane; a multiple of 8. 128 is fast, with head_dim 64 or 128
  Arena arena;
  const bf16* q_near = nullptr;  // (m, heads, head_dim), rotated; 16-byte aligned
  const bf16* q_far = nullptr;   // as q_near; may be the same memory
  int64_t q_stride = 0;  // elements between queries, at least heads * head_dim; a multiple of 8
  int64_t position = 0;
  // Of queries 0, 128, 256, ...: device, kPositionRun queries each stand side by side from there on,
  // and `position` is not used. Null: all stand side by side.
  const int64_t* positions = nullptr;
  int32_t m = 0;
  Lists lists;
  Band near_band, far_band;
  float scale = 0;       // logit = scale * q.k; above zero
  bf16* o = nullptr;     // (m, heads, head_dim), 16-byte aligned
  float* lse = nullptr;  // (m, heads); may be null
  // What the same queries saw before, elsewhere: the result is that of the union. Both or neither;
  // may be o32 and lse.
  const float* o_before = nullptr;    // (m, heads, head_dim)
  const float* lse_before = nullptr;  // (m, heads)
  float* o32 = nullptr;               // (m, heads, head_dim), written in place of o
  // Device, two numbers, zero before and after the call, of no other call at the same time: thread
  // blocks then take their work from there one item after the other, so that those that begin late,
  // since something else runs beside, do less. Null: work is dealt beforehand. Bits are the same.
  int32_t* work = nullptr;
};
#ifdef __CUDACC__
// The position of query `from`, the first of a tile that does not cross a run.
__device__ inline int64_t position_of(const PrefillAttention& a, int from) {
  return a.positions ? a.positions[from / kPositionRun] + from % kPositionRun : a.position + from;
}
#endif
// Throws std::invalid_argument where the above does not hold, DeviceError where the device refuses.
void prefill_attention(const PrefillAttention& a, cudaStream_t stream);

// One query of each of several sequences. Nothing of it is read on the host but the pointers, the
// shapes and max_count: it can be captured. Where there is a list of units, the kernel in front on
// the stream may write what these refer to, and nothing else of what is read here: all else is
// attended to beside that kernel.
struct DecodeAttention {
  Heads shape;
  int unit = 0;
  Arena arena;
  int32_t rows = 0;
  const bf16* q_near = nullptr;       // (rows, heads, head_dim), rotated
  const bf16* q_far = nullptr;
  const int64_t* position = nullptr;  // device, (rows)
  const Lists* lists = nullptr;       // device, (rows); row_offset of every list is row_offset below
  int32_t max_near = 0, max_far = 0, max_units = 0;  // host: greatest max_count of any row's lists
  int32_t row_offset = 0;             // of near and far; units have absolute rows
  const Band* near_band = nullptr;    // device, (rows)
  const Band* far_band = nullptr;     // device, (rows)
  float scale = 0;
  bf16* o = nullptr;     // (rows, heads, head_dim)
  float* lse = nullptr;  // (rows, heads); may be null
  float* o32 = nullptr;  // as o, written in its place: a partial result
  float* scratch = nullptr;  // decode_attention_scratch() floats
};
int64_t decode_attention_scratch(const Heads& shape, int32_t rows, int32_t max_blocks);  // floats
void decode_attention(const DecodeAttention& a, cudaStream_t stream);

// (o, lse) of rows of head_dim becomes the merge of it with (o2, lse2), by log-sum-exp.
void merge(bf16* o, float* lse, const bf16* o2, const float* lse2, int64_t rows, int head_dim,
           cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
