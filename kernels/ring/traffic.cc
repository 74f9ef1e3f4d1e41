#include "kernels/ring/traffic.h"

#include <cstddef>

namespace ringtide::kernels::ring {

Sizes sizes(int heads, int kv_heads, int head_dim, int unit, int element_bytes) {
  Sizes s;
  s.kv_block = int64_t{2} * kv_heads * unit * head_dim * element_bytes;
  s.query = int64_t{heads} * head_dim * element_bytes;
  s.partial = int64_t{heads} * (head_dim + 1) * static_cast<int64_t>(sizeof(float));
  return s;
}

Traffic traffic(const Placement& placement, Tokens fresh, Mode mode, const Sizes& sizes) {
  Traffic t;
  for (int shard = 0; shard < placement.shards(); ++shard) {
    const Plan plan = make_plan(placement, fresh, mode, shard);
    for (size_t h = 0; h < plan.hops.size(); ++h) {
      const Hop& hop = plan.hops[h];
      if (mode == Mode::PassKv) {
        t.rotated += hop.sends * sizes.kv_block;
      } else {
        t.rotated += hop.sends * sizes.query;
        if (h > 0) t.returned += hop.here * sizes.partial;
      }
    }
  }
  return t;
}

Mode choose(const Placement& placement, Tokens fresh, const Sizes& sizes) {
  const int64_t keys = traffic(placement, fresh, Mode::PassKv, sizes).all();
  return traffic(placement, fresh, Mode::PassQ, sizes).all() < keys ? Mode::PassQ : Mode::PassKv;
}

bool queries_rotate_fewer(int64_t fresh, int64_t past, int heads, int kv_heads) {
  return static_cast<double>(fresh) * heads < 2.0 * kv_heads * static_cast<double>(fresh + past);
}

}  // namespace ringtide::kernels::ring
