// Attention over any list of KV blocks: partial results that merge by log-sum-exp.
//
// Every part of a context (local window, sinks, retrieved units, another shard's keys) gives a
// partial result of the same kind, (O, LSE): O is the softmax-weighted sum of the values, LSE the
// natural logarithm of the sum of exp(logit), float32. A query that sees no key has O = 0 and LSE =
// -inf.
//
// A query's result depends on its own vector, position and the list of blocks alone, bit for bit:
// not on how many queries are computed together, nor on the number of threads.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "kernels/tensor_type.h"
#include "kernels/threads.h"

namespace ringtide::kernels {

// Grouped-query attention: query head h reads KV head h / (heads / kv_heads).
struct HeadShape {
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // even
};

// Cosines and sines of the angles that keys are turned by.
struct Rotation {
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// Rotations by so many tokens' way, (ways / 16 rounded up, head_dim / 2, 16) each: where angle j of
// a way of t tokens is, and how many floats there are with what rounds up.
constexpr int64_t kStepsTogether = 16;
constexpr int64_t step_at(int64_t t, int64_t j, int64_t half) {
  return (t / kStepsTogether * half + j) * kStepsTogether + t % kStepsTogether;
}
constexpr int64_t step_floats(int64_t tokens, int64_t half) {
  return (tokens + kStepsTogether - 1) / kStepsTogether * half * kStepsTogether;
}

// Consecutive tokens of one layer.
struct KvBlock {
  const void* k = nullptr;  // (kv_heads, capacity, head_dim) of `type`, before RoPE
  const void* v = nullptr;  // as k
  KvType type = KvType::F32;
  int32_t capacity = 0;
  int32_t begin = 0, end = 0;  // tokens [begin, end) take part, the others are not read
  int64_t position = 0;        // position of token 0, for the band
  // The key of token t is turned by the angles of token 0, (head_dim / 2) each, and by those of the
  // way to t, at step_at(), step_floats(capacity) each. Null: keys are used as they are.
  Rotation start, steps;
};

// A query at position p sees a key at position j where nearest <= p - j <= farthest.
struct Band {
  int64_t nearest = 0;
  int64_t farthest = std::numeric_limits<int64_t>::max();
};

// q (m, heads, head_dim), already rotated; query i stands at position + i. Writes o (m, heads,
// head_dim) and lse (m, heads). logit = scale * q.k.
void attend(const HeadShape& shape, const float* q, int64_t position, int64_t m,
            std::span<const KvBlock> blocks, Band band, float scale, float* o, float* lse,
            ThreadPool& threads);

// Merges the partial results (o2, lse2) into (o, lse): rows * head_dim and rows values.
void merge(float* o, float* lse, const float* o2, const float* lse2, int64_t rows, int head_dim,
           ThreadPool& threads);

// sums (heads, block.capacity) += for each key of the block, the sum of logits over the queries
// that see it. Deterministic in the same sense; the order of addition is by query.
void column_logits(const HeadShape& shape, const float* q, int64_t position, int64_t m,
                   const KvBlock& block, Band band, float scale, float* sums, ThreadPool& threads);

}  // namespace ringtide::kernels
