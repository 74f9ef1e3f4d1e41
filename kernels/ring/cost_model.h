// What a ring costs, of one layer: a model of three parts, compute, bytes and latency, whose
// constants are measured on two devices.
#pragma once

#include <cstdint>

namespace ringtide::kernels::ring {

struct Rates {
  double attention_flops = 0;  // of one device, a second
  double hop_seconds = 0;      // of a hop, beside arithmetic and bytes: launches, tails, merging
  double link_bytes = 0;       // a second, of one link in one direction while both are busy
  double link_seconds = 0;     // latency of a message
  double memory_bytes = 0;     // a second, of one device, while decoding
  double gather_seconds = 0;   // latency of one exchange of partial results between two devices
  // Units of a device that each take a tile of so many queries of one head: fewer tiles than units
  // leave some idle.
  int units = 1, tile = 1;
};

struct AttentionShape {
  int heads = 0, kv_heads = 0, head_dim = 0;
  int element_bytes = 2;
};

// Pass-KV of `fresh` tokens over `past` ones, all evenly spread: each hop takes what is longer, its
// arithmetic or the transfer for the next one. One shard: its arithmetic.
double prefill_seconds(const AttentionShape& shape, const Rates& rates, double fresh, double past,
                       int shards);

// A layer's pass of `rows` queries a shard over `keys` keys a shard, on two shards. Pass-KV: a hop takes
// what is longer, its arithmetic or the keys' transfer. Pass-Q: queries travel beside arithmetic;
// that partial results go out and results come back nothing hides.
struct PassSeconds {
  double keys = 0, queries = 0;
};
PassSeconds pass_seconds(const AttentionShape& shape, const Rates& rates, double rows, double keys);

// One query of each of `rows` sequences of `tokens` tokens. Latency of the exchange grows with the
// doublings of shards.
double decode_seconds(const AttentionShape& shape, const Rates& rates, double tokens, double rows,
                      int shards);

}  // namespace ringtide::kernels::ring
