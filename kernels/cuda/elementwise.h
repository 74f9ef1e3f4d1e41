// The operations between matrix products. The residual stream is float32, everything that is an
// input of a product is bf16. Rows may be 0. A row's result depends on that row alone.
#pragma once

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

// x (rows, hidden) = scale * table[tokens[r]], table (vocabulary, hidden). tokens: device.
void embed(const int32_t* tokens, const bf16* table, int64_t rows, int64_t hidden, float scale,
           float* x, cudaStream_t stream);

// y[r, i] = x[r, i] * weight[i] / sqrt(mean_i(x[r, i]^2) + eps), rows (rows, dim). The kernel in
// front must not be what writes weight.
void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t dim, bf16* y,
              cudaStream_t stream);

// y[r, i] = act(x[r, i]) * x[r, n + i], x (rows, 2n): gate and up side by side, as one product makes
// them. silu(x) = x / (1 + exp(-x)); gelu is the tanh form.
enum class Gate : uint8_t { Silu, Gelu };
void gate_mul(const bf16* x, int64_t rows, int64_t n, Gate gate, bf16* y, cudaStream_t stream);

// Where each row's token goes: device, (rows). A negative row: that is not kept.
struct TokenPlace {
  int32_t raw_row = 0;      // arena row of the token in KV head 0 of the unrotated keys' plane
  int32_t rotated_row = 0;  // of the rotated keys' plane
  int32_t v_row = 0;        // of the values' plane; KV head g: + g * unit, in all three
  int32_t near_angle = 0;   // row of the table for the near queries and the keys
  int32_t far_angle = 0;    // row of the table for the far queries
};

// From qkv (rows, (heads + 2 kv_heads) * head_dim), a product's output: adds the bias where there is
// one, normalises heads of q and k where there are norms (Qwen3, Gemma 3), rotates, and writes
//   q_near, q_far (rows, heads, head_dim): the query at its two places
//   the token's key, unrotated and rotated, and its value, into the arena.
// Rotation is of pairs (x[j], x[j + head_dim / 2]) by cos, sin (angles, head_dim / 2), float32. The
// rotated key is made of the unrotated one as it is kept, so that rotate_plane() of an unrotated
// plane gives the same bits.
struct Qkv {
  Heads shape;
  int unit = 0;
  Arena arena;
  const bf16* qkv = nullptr;
  const float* bias = nullptr;     // as a row of qkv; may be null
  const float* q_norm = nullptr;   // (head_dim); may be null
  const float* k_norm = nullptr;
  float norm_eps = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  const TokenPlace* place = nullptr;
  int32_t row_offset = 0;          // added to the three rows of a place: a layer's place in a page
  int64_t rows = 0;
  bf16* q_near = nullptr;
  bf16* q_far = nullptr;           // may be null: not wanted
  bf16* q_raw = nullptr;           // the unrotated queries, for lookups of many; may be null
  bf16* q_lookup = nullptr;        // those of q_raw rotated to lookup_angle: what mean_query() makes of
  const int32_t* lookup_angle = nullptr;  // each alone; may be null. Angles: device, (rows)
};
void split_qkv(const Qkv& a, cudaStream_t stream);

// Rotates keys of a plane in place of another: dst plane = src plane rotated by cos, sin rows
// [angle, angle + unit). Both (kv_heads, unit, head_dim) in the arena.
void rotate_plane(const Heads& shape, int unit, Arena arena, int32_t src_row, int32_t dst_row,
                  const float* cos, const float* sin, int32_t angle, cudaStream_t stream);

// cos, sin (n, half), float32, of (position + i) * inv_freq[j], taken in double. inv_freq: device.
void rope_angles(const double* inv_freq, int32_t half, int64_t position, int64_t n, float* cos,
                 float* sin, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
