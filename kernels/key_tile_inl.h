// Tiles of keys and values in float32, as the products of attention want them.
#include <algorithm>

#include "kernels/rope_inl.h"
#include "kernels/simd_inl.h"
#include "kernels/tile_inl.h"
#include "kernels/visible.h"

#if defined(RINGTIDE_KERNELS_KEY_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_KEY_TILE_INL_H
#undef RINGTIDE_KERNELS_KEY_TILE_INL_H
#else
#define RINGTIDE_KERNELS_KEY_TILE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Rows of keys, values and outputs in scratch are padded with zeros to whole tiles of outputs.
constexpr int kVectors = 2;
constexpr int kWide = kVectors * kLanes;
static_assert(kTile % kWide == 0);

inline int padded(int head_dim) {
  constexpr int kWhole = std::max(kWide, 4);  // and to whole steps of the transposition
  return (head_dim + kWhole - 1) / kWhole * kWhole;
}

// n values of one token; zeros after them up to `width`.
template <class T>
HWY_INLINE void widen(const T* src, int n, int width, float* dst) {
  int i = 0;
  for (; i + static_cast<int>(kLanes) <= n; i += kLanes) hn::StoreU(load(src + i), Df(), dst + i);
  for (; i < width; i += kLanes) hn::StoreU(load_part(src + i, std::max(0, n - i)), Df(), dst + i);
}

#if HWY_TARGET == HWY_SCALAR
// columns (4, kTile) = four numbers of each of kLanes rows.
HWY_INLINE void transpose4(const float* rows, int64_t, float* columns) {
  for (int c = 0; c < 4; ++c) columns[c * kTile] = rows[c];
}
#else
// Blocks of four floats, block b from p + 4 b stride.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const float* p, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> half;
    const int64_t keys = hn::MaxLanes(half);
    return hn::Combine(d, load_blocks(half, p + keys * stride, stride),
                       load_blocks(half, p, stride));
  }
}

HWY_INLINE void transpose4(const float* rows, int64_t stride, float* columns) {
  const Df d;
  const hn::Repartition<double, Df> pairs;
  const Vf a = load_blocks(d, rows, stride);
  const Vf b = load_blocks(d, rows + stride, stride);
  const Vf c = load_blocks(d, rows + 2 * stride, stride);
  const Vf e = load_blocks(d, rows + 3 * stride, stride);
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_low, ce_low)), d, columns);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_low, ce_low)), d, columns + kTile);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_high, ce_high)), d, columns + 2 * kTile);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_high, ce_high)), d, columns + 3 * kTile);
}
#endif

// Where the next tile's rows of keys and values lie: asked for while this one is worked on, since few
// queries take less time than memory does.
struct Ahead {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  int64_t bytes = 0;  // of each
};

inline Ahead ahead_of(const KvBlock& block, int head_dim, int kv_head, int64_t t) {
  const int64_t row = head_dim * kv_bytes(block.type);
  const Range range = tile_range(block, t);
  const int64_t first = (static_cast<int64_t>(kv_head) * block.capacity + range.begin) * row;
  return {static_cast<const std::byte*>(block.k) + first,
          static_cast<const std::byte*>(block.v) + first, range.size() * row};
}

// Share i of kTile of `bytes` at p, into the second cache: more fetches fit under way to it.
HWY_INLINE void prefetch(const std::byte* p, int64_t bytes, int64_t i) {
  const int64_t end = bytes * (i + 1) / kTile;
  for (int64_t at = bytes * i / kTile / 64 * 64; at < end; at += 64) __builtin_prefetch(p + at, 0, 2);
}

// One KV head's tokens `range` of tile t: keys, rotated, as (padded(head_dim), kTile) and values as
// (kTile, padded(head_dim)); tokens outside the range are zeros. Either destination may be null.
template <class T>
HWY_INLINE void load_tile(const KvBlock& block, int head_dim, int kv_head, int64_t t, Range range,
                          float* rows, float* keys, float* values, const Ahead& ahead) {
  const int width = padded(head_dim);
  const int half = head_dim / 2;
  const int64_t head = static_cast<int64_t>(kv_head) * block.capacity * head_dim;
  const T* k = static_cast<const T*>(block.k) + head;
  const T* v = static_cast<const T*>(block.v) + head;
  for (int i = 0; i < kTile; ++i) {
    const int64_t token = t * kTile + i;
    float* row = rows + i * width;
    prefetch(ahead.k, ahead.bytes, i);
    if (values) prefetch(ahead.v, ahead.bytes, i);
    if (token < range.begin || token >= range.end) {
      std::fill_n(row, width, 0.f);
      if (values) std::fill_n(values + i * width, width, 0.f);
      continue;
    }
    if (block.cos) {
      if (head_dim < width) std::fill(row + head_dim, row + width, 0.f);
      rotate(k + token * head_dim, half, block.cos + token * half, block.sin + token * half, row);
    } else {
      widen(k + token * head_dim, head_dim, width, row);
    }
    if (values) widen(v + token * head_dim, head_dim, width, values + i * width);
  }
  for (int i = 0; i < kTile; i += kLanes) {
    for (int c = 0; c < head_dim; c += 4) {
      transpose4(rows + i * width + c, width, keys + c * kTile + i);
    }
  }
}

inline void load_tile(const KvBlock& block, int head_dim, int kv_head, int64_t t, Range range,
                      float* rows, float* keys, float* values, const Ahead& ahead = {}) {
  if (block.type == KvType::F16) {
    load_tile<uint16_t>(block, head_dim, kv_head, t, range, rows, keys, values, ahead);
  } else {
    load_tile<float>(block, head_dim, kv_head, t, range, rows, keys, values, ahead);
  }
}

// Vectors of outputs in a tile of R rows: few rows take more, to have enough sums under way.
template <int R>
constexpr int tile_vectors() {
  return kManyRegisters && R <= 4 && kTile % (4 * kLanes) == 0 ? 4 : kVectors;
}

// logits (R, kTile) of R rows of queries, interleaved and already scaled.
template <int R>
HWY_INLINE void tile_logits(const float* q, int head_dim, const float* keys, float* logits) {
  constexpr int kTileVectors = tile_vectors<R>();
  for (int column = 0; column < kTile; column += kTileVectors * kLanes) {
    Tile<R, kTileVectors, Interleaved<R>> tile({q});
    tile.add(keys + column, kTile, 0, head_dim);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < kTileVectors; ++v) {
        hn::StoreU(tile.sum[r][v], Df(), logits + r * kTile + column + v * kLanes);
      }
    }
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
