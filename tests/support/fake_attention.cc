#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "tests/support/fake_operations.h"
#include "tests/support/fake_values.h"

namespace ringtide::testing {

using namespace kernels;        // NOLINT: the whole file is about these
using namespace kernels::cuda;  // NOLINT

void fake_attend(const Heads& s, int unit, const Arena& arena, const bf16* q_near,
                 const bf16* q_far, int64_t p, const Lists& lists, int near_offset, int far_offset,
                 Band near_band, Band far_band, float scale, const FakeBefore& before,
                 const FakeResult& result) {
  struct Key {
    double logit;
    const bf16* v;
  };
  std::vector<Key> keys;
  std::vector<double> out(s.head_dim);
  for (int h = 0; h < s.heads; ++h) {
    keys.clear();
    const int64_t head = int64_t{h / s.group()} * unit;
    const auto see = [&](const KvList& list, int offset, const bf16* q, Band band) {
      const int32_t n = list.refs && list.count ? *list.count : 0;
      if (n > list.max_count) throw std::logic_error("a list is longer than its bound");
      for (int32_t i = 0; i < n; ++i) {
        const KvRef& r = list.refs[i];
        for (int32_t t = r.begin; t < r.end; ++t) {
          const int64_t distance = p - (r.position + t);
          if (distance < band.nearest || distance > band.farthest) continue;
          const int64_t k = r.k_row + offset + head + t, v = r.v_row + offset + head + t;
          if (k < 0 || k >= arena.rows || v < 0 || v >= arena.rows)
            throw std::logic_error("a block lies outside the arena");
          keys.push_back({scale * dot(at(q, int64_t{h} * s.head_dim),
                                      at(arena.base, k * s.head_dim), s.head_dim),
                          at(arena.base, v * s.head_dim)});
        }
      }
    };
    see(lists.near, near_offset, q_near, near_band);
    see(lists.far, far_offset, q_far, far_band);
    see(lists.units, 0, q_far, far_band);
    double top = before.lse ? before.lse[h] : -std::numeric_limits<double>::infinity();
    const bool seen = !keys.empty() || top > -std::numeric_limits<double>::infinity();
    for (const Key& k : keys) top = std::max(top, k.logit);
    double total = seen && before.lse ? std::exp(before.lse[h] - top) : 0;
    for (int j = 0; j < s.head_dim; ++j)
      out[j] = total > 0 ? total * before.o[int64_t{h} * s.head_dim + j] : 0;
    for (const Key& k : keys) {
      const double w = std::exp(k.logit - top);
      total += w;
      for (int j = 0; j < s.head_dim; ++j) out[j] += w * value(k.v, j);
    }
    for (int j = 0; j < s.head_dim; ++j) {
      const int64_t to = int64_t{h} * s.head_dim + j;
      const float x = seen ? static_cast<float>(out[j] / total) : 0.0f;
      if (result.o32)
        result.o32[to] = x;
      else
        store(result.o, to, x);
    }
    if (result.lse)
      result.lse[h] = seen ? static_cast<float>(top + std::log(total))
                           : -std::numeric_limits<float>::infinity();
  }
}

}  // namespace ringtide::testing
