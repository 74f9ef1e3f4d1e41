#include "kernels/ring/cost_model.h"

#include <algorithm>
#include <cmath>

namespace ringtide::kernels::ring {

double prefill_seconds(const AttentionShape& shape, const Rates& rates, double fresh, double past,
                       int shards) {
  const double pairs = fresh * (fresh / 2 + past);
  const double compute = 4.0 * shape.heads * shape.head_dim * pairs / rates.attention_flops;
  if (shards == 1) return compute;
  const double n = shards;
  const double hop = compute / (n * n) + rates.hop_seconds;
  const double bytes =
      2.0 * shape.kv_heads * shape.head_dim * shape.element_bytes * (fresh + past) / n;
  const double transfer = bytes / rates.link_bytes + rates.link_seconds;
  return (n - 1) * std::max(hop, transfer) + hop;
}

PassSeconds pass_seconds(const AttentionShape& shape, const Rates& rates, double rows,
                         double keys) {
  const double tiles = std::ceil(rows / rates.tile) * shape.heads;
  const double rounds = std::ceil(tiles / rates.units);
  const double hop = rounds * rates.tile * rates.units / shape.heads * keys * 4.0 * shape.heads *
                     shape.head_dim / rates.attention_flops;
  const double kv_bytes = 2.0 * shape.kv_heads * shape.head_dim * shape.element_bytes * keys;
  const double query_bytes = rows * shape.heads * shape.head_dim * shape.element_bytes;
  const double partial_bytes = rows * shape.heads * (shape.head_dim + 1) * sizeof(float);
  return {std::max(hop, kv_bytes / rates.link_bytes + rates.link_seconds) + hop,
          std::max(hop, query_bytes / rates.link_bytes + rates.link_seconds) + hop +
              (partial_bytes + query_bytes) / rates.link_bytes + 3 * rates.link_seconds};
}

double decode_seconds(const AttentionShape& shape, const Rates& rates, double tokens, double rows,
                      int shards) {
  const double bytes =
      2.0 * shape.kv_heads * shape.head_dim * shape.element_bytes * tokens * rows / shards;
  return bytes / rates.memory_bytes + rates.gather_seconds * std::log2(shards);
}

}  // namespace ringtide::kernels::ring
