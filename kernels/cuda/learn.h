// What a sequence learns of its keys while they are in the window: sums from which the
// representatives of a unit are made when it is sealed. As model/context.cc does it on the CPU: the
// score of a key is the mean of its logits over the window's queries; whole pages of queries are
// summed first, since a sum of logits is the logit of the sum.
#pragma once

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

// out (rows, heads, head_dim) = mean over queries [begin[r], begin[r + 1]) of q (m, heads, head_dim),
// rotated by row `angle[r]` of cos, sin. begin, angle: device. Decode: one query a row.
void mean_query(const Heads& shape, const bf16* q, const int32_t* begin, const int32_t* angle,
                int32_t rows, const float* cos, const float* sin, bf16* out, cudaStream_t stream);

// A run of queries of one page and the keys they are scored against.
struct LearnRun {
  int32_t q_begin = 0, q_end = 0;  // rows of q
  int64_t q_position = 0;          // of q_begin
  float* query_sum = nullptr;      // (heads, head_dim) of the layer: += the queries
  // The two pages that only part of the queries' windows cover: their own, and the one leaving; a
  // null sum is skipped. Keys: rotated plane. Sums of logits (heads, unit) +=.
  int32_t own_row = 0, own_end = 0;      // arena row, tokens that exist
  int64_t own_position = 0;
  float* own_sums = nullptr;
  int32_t leaving_row = 0;
  int64_t leaving_position = 0;
  float* leaving_sums = nullptr;
};
struct Learn {
  Heads shape;
  int unit = 0;
  Arena arena;
  const bf16* q = nullptr;  // (m, heads, head_dim), rotated near, of the first layer
  const LearnRun* runs = nullptr;  // device
  int32_t run_count = 0;           // host: grid
  // Of the first layer: to own_row and leaving_row; floats to query_sum, to the logit sums.
  int32_t row_offset = 0;
  int64_t sum_offset = 0, logit_offset = 0;
  // Layers at once, and from each to the next: rows of the arena, values of q; in the sums they lie
  // side by side.
  int32_t layers = 1;
  int32_t layer_rows = 0;
  int64_t layer_q = 0;
  int64_t window = 0;              // band: 0 <= distance < window
  float scale = 0;
  int32_t max_queries = 0;         // host: bound of a run's queries, for speed alone; 0: unknown
};
// Order of additions is by query: the same sums however the queries were cut into calls. Two runs of
// a call must not share a sum.
void learn(const Learn& a, cudaStream_t stream);

// Representatives of one unit, all layers: for each layer and query head the mean of the `take`
// unrotated keys of tokens [begin, unit) with the highest scores (ties: the earlier).
struct Represent {
  Heads shape;
  int unit = 0, layers = 0;
  Arena arena;
  int32_t raw_row = 0, rotated_row = 0;  // of layer 0; layer l: + l * layer_rows
  int32_t layer_rows = 0;
  int32_t first_layer = 0, end_layer = 0;  // layers [first, end)
  // Of logits, as in LearnRun, (layers, heads, unit) each: a key's is the sum of both.
  const float* own_sums = nullptr;
  const float* leaving_sums = nullptr;
  const float* const* query_sums = nullptr;  // device, (whole): of each page wholly in the window,
                                             // (layers, heads, head_dim)
  int32_t whole = 0;
  float scale = 0;
  int32_t take = 0, begin = 0;
  float* out32 = nullptr;   // (layers, heads, head_dim)
  bf16* group = nullptr;    // the index group, (layers, kIndexGroup, heads, head_dim); slot below
  int32_t slot = 0;
};
void represent(const Represent& a, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
