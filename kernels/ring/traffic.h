// How many bytes a ring prefill moves, and the choice between passing keys and passing queries.
#pragma once

#include <cstdint>

#include "kernels/ring/plan.h"

namespace ringtide::kernels::ring {

// Bytes of what travels.
struct Sizes {
  int64_t kv_block = 0;  // keys and values of a block of one layer
  int64_t query = 0;     // of one token, all heads
  int64_t partial = 0;   // (O, LSE) of one token, all heads
};
// Keys, values and queries of element_bytes each; partial results in float32.
Sizes sizes(int heads, int kv_heads, int head_dim, int unit, int element_bytes);

// Of one layer, over all links of the ring.
struct Traffic {
  int64_t rotated = 0;   // keys and values, or queries
  int64_t returned = 0;  // partial results
  int64_t all() const { return rotated + returned; }
};
Traffic traffic(const Placement& placement, Tokens fresh, Mode mode, const Sizes& sizes);

// What moves fewer bytes; pass-KV if they are equal.
Mode choose(const Placement& placement, Tokens fresh, const Sizes& sizes);

// The rule of arXiv:2411.01783: queries rotate fewer bytes than keys and values when
// T / (T + P) < 2 * kv_heads / heads, of T fresh and P past tokens. It leaves out partial results,
// which choose() counts, and takes blocks to be full.
bool queries_rotate_fewer(int64_t fresh, int64_t past, int heads, int kv_heads);

}  // namespace ringtide::kernels::ring
