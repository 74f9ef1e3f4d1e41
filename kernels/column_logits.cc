#include <algorithm>

#include "kernels/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/column_logits.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/key_tile_inl.h"

#ifndef RINGTIDE_KERNELS_COLUMN_LOGITS_ONCE
#define RINGTIDE_KERNELS_COLUMN_LOGITS_ONCE
namespace ringtide::kernels {

struct Columns {
  HeadShape shape;
  const float* q;
  int64_t position, m;
  KvBlock block;
  Band band;
  float scale;
  float* sums;
};

}  // namespace ringtide::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Adds the logits of R queries, from `first` on, of one head to the sums of a tile's tokens.
struct AddLogits {
  const Columns& c;
  int head;
  int64_t tile, first;
  const float* keys;
  float *queries, *logits;

  template <int R>
  HWY_INLINE void operator()() const {
    const int dim = c.shape.head_dim;
    for (int r = 0; r < R; ++r) {
      const float* q = c.q + ((first + r) * c.shape.heads + head) * dim;
      for (int i = 0; i < dim; ++i) queries[i * R + r] = c.scale * q[i];
    }
    tile_logits<R>(queries, dim, keys, logits);
    float* sums = c.sums + static_cast<int64_t>(head) * c.block.capacity;
    for (int r = 0; r < R; ++r) {
      const int64_t position = c.position + first + r;
      const Range seen =
          intersect(visible(c.block, c.band, position, position), tile_range(c.block, tile));
      const float* row = logits + r * kTile - tile * kTile;
      for (int64_t token = seen.begin; token < seen.end; ++token) sums[token] += row[token];
    }
  }
};

void add_tile(const Columns& c, int kv_head, int64_t tile, float* scratch) {
  const Range seen = visible(c.block, c.band, c.position, c.position + c.m - 1);
  if (intersect(seen, tile_range(c.block, tile)).empty()) return;
  const int width = padded(c.shape.head_dim);
  float* part = scratch;
  float* keys = part + kStrip * width;
  float* queries = keys + kTile * width;
  float* logits = queries + kTileRows * width;
  load_keys(c.block, c.shape.head_dim, kv_head, tile, tile_range(c.block, tile), part, keys);
  const int group = c.shape.heads / c.shape.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t i = 0; i < c.m;) {
      i += with_rows(c.m - i, AddLogits{c, head, tile, i, keys, queries, logits});
    }
  }
}

void add_columns(const Columns& c, ThreadPool& threads) {
  const Range range = tiles(c.block);
  const int width = padded(c.shape.head_dim);
  const size_t floats = (kTile + kStrip) * width + kTileRows * (width + kTile);
  threads.parallel_for(range.size() * c.shape.kv_heads, [&](int64_t task, int thread) {
    auto* scratch = reinterpret_cast<float*>(threads.scratch(thread, floats * sizeof(float)));
    add_tile(c, static_cast<int>(task % c.shape.kv_heads), range.begin + task / c.shape.kv_heads,
             scratch);
  });
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(add_columns);

void column_logits(const HeadShape& shape, const float* q, int64_t position, int64_t m,
                   const KvBlock& block, Band band, float scale, float* sums, ThreadPool& threads) {
  if (visible(block, band, position, position + m - 1).empty() || m <= 0) return;
  HWY_DYNAMIC_DISPATCH(add_columns)({shape, q, position, m, block, band, scale, sums}, threads);
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
