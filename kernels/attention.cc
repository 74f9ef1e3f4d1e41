#include "kernels/attention.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/key_tile_inl.h"
#include "kernels/merge_inl.h"

// Online softmax over tiles of keys. What happens to one (query, head) is fixed by the list of
// blocks alone: it takes the tiles in order, each in which it sees a key, and every kSegmentTiles
// tiles its partial result is normalised and merged into the one so far. Queries only share the
// loading of tiles, and segments may be computed by different threads because they merge in order.

#ifndef RINGTIDE_KERNELS_ATTENTION_ONCE
#define RINGTIDE_KERNELS_ATTENTION_ONCE
namespace ringtide::kernels {

constexpr float kNoKeys = -std::numeric_limits<float>::infinity();
constexpr int64_t kSegmentTiles = 16;
// Rows (queries times their heads of one KV head) that share a loaded tile.
constexpr int64_t kChunkRows = 192;
// Up to so many, memory is what limits.
constexpr int64_t kFewRows = 4;

struct Attention {
  HeadShape shape;
  const float* q;
  int64_t position, m;
  std::span<const KvBlock> blocks;
  Band band;
  float scale;
  float* o;
  float* lse;

  int group() const { return shape.heads / shape.kv_heads; }
};

// Queries [begin, end) with one KV head.
struct Part {
  int kv_head;
  int64_t begin, end;
};

}  // namespace ringtide::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// A thread's memory. Row r is query part.begin + r / group with head r % group of the KV head's.
struct Workspace {
  float* queries;  // (rows, head_dim), scaled, each tile's rows interleaved
  float* outputs;  // (rows, width), not normalised
  float* top;      // (rows) greatest logit so far
  float* sums;     // (rows, kLanes) of exp(logit - top), by lane
  float* keys;     // strips of (head_dim, kStrip)
  float* values;   // (kTile, width)
  float* part;     // (kStrip, head_dim)
  float* logits;   // (kTileRows, kTile)
  int width;

  static int64_t floats(int64_t rows, int head_dim) {
    const int64_t width = padded(head_dim);
    return rows * (2 * width + 16 + kLanes) + (2 * kTile + kStrip) * width + kTileRows * kTile;
  }
  Workspace(float* p, int64_t rows, int head_dim) : width(padded(head_dim)) {
    const auto take = [&](int64_t n) { return p += n, p - n; };
    keys = take(kTile * width);
    values = take(kTile * width);
    part = take(kStrip * width);
    logits = take(kTileRows * kTile);
    queries = take(rows * width);
    outputs = take(rows * width);
    sums = take(rows * kLanes);
    top = take(rows);
  }
};

// Hides the logits of tokens that are not seen, counted from the tile's first; returns the
// greatest.
HWY_INLINE float hide_unseen(float* logits, Range seen) {
  const Df d;
  const Vf none = hn::Set(d, kNoKeys);
  Vf greatest = none;
  if (seen.size() == kTile) {
    for (int i = 0; i < kTile; i += kLanes) {
      greatest = hn::Max(greatest, hn::LoadU(d, logits + i));
    }
    return max_lanes(greatest);
  }
  const Vf begin = hn::Set(d, static_cast<float>(seen.begin));
  const Vf end = hn::Set(d, static_cast<float>(seen.end));
  for (int i = 0; i < kTile; i += kLanes) {
    const Vf token = hn::Iota(d, static_cast<float>(i));
    const auto sees = hn::And(hn::Ge(token, begin), hn::Lt(token, end));
    const Vf logit = hn::IfThenElse(sees, hn::LoadU(d, logits + i), none);
    greatest = hn::Max(greatest, logit);
    hn::StoreU(logit, d, logits + i);
  }
  return max_lanes(greatest);
}

// Logits become exp(logit - top), and sums, by lane, those of all tokens so far.
HWY_INLINE void soften(float* logits, float top, float factor, float* sums) {
  const Df d;
  const Vf shift = hn::Set(d, top);
  Vf sum = hn::Mul(hn::LoadU(d, sums), hn::Set(d, factor));
  for (int i = 0; i < kTile; i += kLanes) {
    const Vf e = exp(hn::Sub(hn::LoadU(d, logits + i), shift));
    sum = hn::Add(sum, e);
    hn::StoreU(e, d, logits + i);
  }
  hn::StoreU(sum, d, sums);
}

// A loaded tile with R rows.
struct TileRows {
  const Attention& a;
  const Part& part;
  const Workspace& w;
  const KvBlock& block;
  int64_t tile, first;  // first row
  bool loaded;          // else keys are a strip at a time, and values are read where they lie
  const Ahead& ahead;

  template <int R>
  HWY_NOINLINE void operator()() const {
    const Range range = tile_range(block, tile);
    Range seen[R];
    if (!find_seen<R>(range, seen)) return;
    const int dim = a.shape.head_dim;
    const float* queries = w.queries + first * dim;
    for (int i = 0; i < kTile; i += kStrip) {
      const float* keys = w.keys + (loaded ? i * dim : 0);
      if (!loaded) {
        for (int key = i; key < i + kStrip; ++key) prefetch(ahead.k, ahead.bytes, key);
        load_strip(block, dim, part.kv_head, tile * kTile + i, range, w.part, w.keys);
      }
      strip_logits<R>(queries, dim, keys, w.logits + i);
    }
    // What was summed before counts exp(greatest before - greatest now) of itself.
    constexpr int kRows = (R + kLanes - 1) / kLanes * kLanes;
    HWY_ALIGN float factor[kRows] = {};
    for (int r = 0; r < R; ++r) {
      if (seen[r].empty()) continue;
      float& top = w.top[first + r];
      const float now = std::max(top, hide_unseen(w.logits + r * kTile, seen[r]));
      factor[r] = top - now;
      top = now;
    }
    for (int r = 0; r < kRows; r += kLanes) {
      hn::Store(exp(hn::Load(Df(), factor + r)), Df(), factor + r);
    }
    for (int r = 0; r < R; ++r) {
      if (seen[r].empty()) continue;
      const int64_t row = first + r;
      soften(w.logits + r * kTile, w.top[row], factor[r], w.sums + row * kLanes);
    }
    int column = 0;
    constexpr int kMost = tile_vectors<R>();
    if constexpr (kMost > kVectors) {
      constexpr int kStep = kMost * kLanes;
      for (; column + kStep <= w.width; column += kStep) {
        add_values<R, kMost>(column, range, seen, factor);
      }
    }
    for (; column < w.width; column += kWide) {
      add_values<R, kVectors>(column, range, seen, factor);
    }
  }

  // What each row sees, from the tile's first token; false if that is nothing at all.
  template <int R>
  HWY_INLINE bool find_seen(Range range, Range (&seen)[R]) const {
    bool any = false;
    const int group = a.group();
    int64_t query = part.begin + first / group;
    int head = static_cast<int>(first % group);
    for (int r = 0; r < R; ++r) {
      const int64_t position = a.position + query;
      const Range tokens = intersect(visible(block, a.band, position, position), range);
      seen[r] = {tokens.begin - tile * kTile, tokens.end - tile * kTile};
      any |= !seen[r].empty();
      if (++head == group) head = 0, ++query;
    }
    return any;
  }

  template <class T, class Sums>
  HWY_INLINE void add_unloaded(Sums& sums, int column, Range tokens) const {
    const int dim = a.shape.head_dim;
    const T* values = static_cast<const T*>(block.v) + column +
                      (static_cast<int64_t>(part.kv_head) * block.capacity + tile * kTile) * dim;
    for (int64_t token = tokens.begin; token < tokens.end; ++token) {
      if (column == 0) prefetch(ahead.v, ahead.bytes, token);
      sums.add(values, dim, token, token + 1);
    }
  }

  template <int R, int V>
  HWY_INLINE void add_values(int column, Range range, const Range (&seen)[R],
                             const float* factor) const {
    const Df d;
    float* outputs = w.outputs + first * w.width + column;
    Tile<R, V, FixedRows<kTile>> sums({w.logits});
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) {
        sums.sum[r][v] =
            hn::Mul(hn::LoadU(d, outputs + r * w.width + v * kLanes), hn::Set(d, factor[r]));
      }
    }
    const Range tokens = {range.begin - tile * kTile, range.end - tile * kTile};
    if (loaded) {
      sums.add(w.values + column, w.width, tokens.begin, tokens.end);
    } else if (block.type == KvType::F16) {
      add_unloaded<uint16_t>(sums, column, tokens);
    } else {
      add_unloaded<float>(sums, column, tokens);
    }
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      if (seen[r].empty()) continue;
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) {
        hn::StoreU(sums.sum[r][v], d, outputs + r * w.width + v * kLanes);
      }
    }
  }
};

struct LoadQueries {
  const Attention& a;
  const Part& part;
  int64_t first;  // row
  float* queries;
  template <int R>
  HWY_NOINLINE void operator()() const {
    const int dim = a.shape.head_dim, group = a.group();
    for (int r = 0; r < R; ++r) {
      const int64_t i = part.begin + (first + r) / group;
      const int64_t head = part.kv_head * group + (first + r) % group;
      const float* q = a.q + (i * a.shape.heads + head) * dim;
      for (int j = 0; j < dim; ++j) queries[first * dim + j * R + r] = a.scale * q[j];
    }
  }
};

void load_queries(const Attention& a, const Part& part, Workspace& w) {
  const int64_t rows = (part.end - part.begin) * a.group();
  for (int64_t r = 0; r < rows;) r += with_rows(rows - r, LoadQueries{a, part, r, w.queries});
}

// Attends over tiles [begin, end) of the whole list and merges the result into o, lse, laid out as
// the whole output.
void attend_tiles(const Attention& a, const Part& part, int64_t begin, int64_t end, Workspace& w,
                  float* o, float* lse) {
  const int dim = a.shape.head_dim, group = a.group();
  const int64_t rows = (part.end - part.begin) * group;
  std::fill_n(w.outputs, rows * w.width, 0.f);
  std::fill_n(w.sums, rows * kLanes, 0.f);
  std::fill_n(w.top, rows, kNoKeys);
  // Loaded keys and values pay for themselves if they are used often.
  const bool loaded = rows > kFewRows || dim % kWide != 0;
  int64_t before = 0;  // tiles of the blocks so far
  for (size_t b = 0; b < a.blocks.size(); ++b) {
    const KvBlock& block = a.blocks[b];
    const Range own = tiles(block);
    const Range wanted = intersect({begin - before, end - before}, {0, own.size()});
    before += own.size();
    const Range seen = visible(block, a.band, a.position + part.begin, a.position + part.end - 1);
    for (int64_t t = own.begin + wanted.begin; t < own.begin + wanted.end; ++t) {
      const Range range = tile_range(block, t);
      if (intersect(seen, range).empty()) continue;
      Ahead ahead;
      if (t + 1 < own.end) {
        ahead = ahead_of(block, dim, part.kv_head, t + 1);
      } else if (b + 1 < a.blocks.size()) {
        ahead = ahead_of(a.blocks[b + 1], dim, part.kv_head, tiles(a.blocks[b + 1]).begin);
      }
      if (loaded) {
        for (int key = 0; key < kTile; ++key) {
          prefetch(ahead.k, ahead.bytes, key);
          prefetch(ahead.v, ahead.bytes, key);
        }
        load_keys(block, dim, part.kv_head, t, range, w.part, w.keys);
        load_values(block, dim, part.kv_head, t, range, w.values);
      }
      for (int64_t r = 0; r < rows;) {
        r += with_rows(rows - r, TileRows{a, part, w, block, t, r, loaded, ahead});
      }
    }
    if (before >= end) break;
  }
  for (int64_t r = 0; r < rows; ++r) {
    if (w.top[r] == kNoKeys) continue;
    const float sum = sum_lanes(hn::LoadU(Df(), w.sums + r * kLanes));
    float* output = w.outputs + r * w.width;
    const float scale = 1 / sum;
    for (int i = 0; i < dim; ++i) output[i] *= scale;
    const int64_t at = (part.begin + r / group) * a.shape.heads + part.kv_head * group + r % group;
    merge_row(o + at * dim, lse + at, output, w.top[r] + std::log(sum), dim);
  }
}

void clear(float* o, float* lse, int64_t rows, int head_dim) {
  std::fill_n(o, rows * head_dim, 0.f);
  std::fill_n(lse, rows, kNoKeys);
}

// Many queries: each thread takes some of them through the whole list.
void attend_by_queries(const Attention& a, int64_t tile_count, ThreadPool& threads) {
  const int64_t per_chunk = std::max<int64_t>(1, kChunkRows / a.group());
  const int64_t chunks = (a.m + per_chunk - 1) / per_chunk;
  const int64_t rows = per_chunk * a.group();
  const size_t bytes = Workspace::floats(rows, a.shape.head_dim) * sizeof(float);
  clear(a.o, a.lse, a.m * a.shape.heads, a.shape.head_dim);
  threads.parallel_for(chunks * a.shape.kv_heads, [&](int64_t task, int thread) {
    // From the last chunk back: under a causal band it sees the most keys.
    const int64_t chunk = chunks - 1 - task / a.shape.kv_heads;
    const Part part{static_cast<int>(task % a.shape.kv_heads), chunk * a.m / chunks,
                    (chunk + 1) * a.m / chunks};
    Workspace w(reinterpret_cast<float*>(threads.scratch(thread, bytes)), rows, a.shape.head_dim);
    load_queries(a, part, w);
    for (int64_t t = 0; t < tile_count; t += kSegmentTiles) {
      attend_tiles(a, part, t, std::min(tile_count, t + kSegmentTiles), w, a.o, a.lse);
    }
  });
}

// Few queries: threads take segments of the list, whose results are merged in order afterwards.
void attend_by_segments(const Attention& a, int64_t tile_count, ThreadPool& threads) {
  const int64_t segments = (tile_count + kSegmentTiles - 1) / kSegmentTiles;
  const int dim = a.shape.head_dim;
  const int64_t rows = a.m * a.shape.heads, part_rows = a.m * a.group();
  const int64_t shared = (segments * rows * (dim + 1) + 15) / 16 * 16;
  const int64_t own = Workspace::floats(part_rows, dim);
  const size_t caller_bytes = (shared + own) * sizeof(float);
  float* o = reinterpret_cast<float*>(threads.scratch(0, caller_bytes));
  float* lse = o + segments * rows * dim;
  clear(o, lse, segments * rows, dim);
  threads.parallel_for(segments * a.shape.kv_heads, [&](int64_t task, int thread) {
    const int64_t segment = task / a.shape.kv_heads;
    const Part part{static_cast<int>(task % a.shape.kv_heads), 0, a.m};
    float* memory = thread == 0
                        ? o + shared
                        : reinterpret_cast<float*>(threads.scratch(thread, own * sizeof(float)));
    Workspace w(memory, part_rows, dim);
    load_queries(a, part, w);
    const int64_t begin = segment * kSegmentTiles;
    attend_tiles(a, part, begin, std::min(tile_count, begin + kSegmentTiles), w,
                 o + segment * rows * dim, lse + segment * rows);
  });
  clear(a.o, a.lse, rows, dim);
  for (int64_t i = 0; i < segments * rows; ++i) {
    merge_row(a.o + i % rows * dim, a.lse + i % rows, o + i * dim, lse[i], dim);
  }
}

void attend_all(const Attention& a, ThreadPool& threads) {
  int64_t tile_count = 0;
  for (const KvBlock& block : a.blocks) tile_count += tiles(block).size();
  if (a.m * a.group() <= kChunkRows && tile_count > kSegmentTiles) {
    attend_by_segments(a, tile_count, threads);
  } else {
    attend_by_queries(a, tile_count, threads);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {

HWY_EXPORT(attend_all);

void attend(const HeadShape& shape, const float* q, int64_t position, int64_t m,
            std::span<const KvBlock> blocks, Band band, float scale, float* o, float* lse,
            ThreadPool& threads) {
  if (m <= 0) return;
  HWY_DYNAMIC_DISPATCH(attend_all)
  ({shape, q, position, m, blocks, band, scale, o, lse}, threads);
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
