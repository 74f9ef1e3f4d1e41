// Tiles of keys and values in float32, as the products of attention want them.
#include <algorithm>

#include "kernels/simd_inl.h"
#include "kernels/tile_inl.h"
#include "kernels/transpose_inl.h"
#include "kernels/visible.h"

#if defined(RINGTIDE_KERNELS_KEY_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_KEY_TILE_INL_H
#undef RINGTIDE_KERNELS_KEY_TILE_INL_H
#else
#define RINGTIDE_KERNELS_KEY_TILE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Rows of values and outputs in scratch are padded with zeros to whole tiles of outputs.
constexpr int kVectors = 2;
constexpr int kWide = kVectors * kLanes;
static_assert(kTile % kWide == 0 && kTile % kStrip == 0 && kStrip % kWide == 0 &&
              kStrip % kStepsTogether == 0 && kStepsTogether % kLanes == 0);

inline int padded(int head_dim) {
  return (head_dim + kWide - 1) / kWide * kWide;
}

// n values of one token; zeros after them up to `width`.
template <class T>
HWY_INLINE void widen(const T* src, int n, int width, float* dst) {
  int i = 0;
  for (; i + static_cast<int>(kLanes) <= n; i += kLanes) hn::StoreU(load(src + i), Df(), dst + i);
  for (; i < width; i += kLanes) hn::StoreU(load_part(src + i, std::max(0, n - i)), Df(), dst + i);
}

// Where the next tile's rows of keys and values lie: asked for while this one is worked on, since
// few queries take less time than memory does.
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
  for (int64_t at = bytes * i / kTile / 64 * 64; at < end; at += 64)
    __builtin_prefetch(p + at, 0, 2);
}

// Turns the keys of a strip, (head_dim, kStrip), by the angles of the block's tokens from `token`
// on.
HWY_INLINE void rotate_strip(const KvBlock& block, int half, int64_t token, float* keys) {
  const Df d;
  for (int i = 0; i < kStrip && token + i < block.capacity; i += kStepsTogether) {
    const int64_t at = step_at(token + i, 0, half);
    const float *cos = block.steps.cos + at, *sin = block.steps.sin + at;
    for (int j = 0; j < half; ++j) {
      const Vf start_cos = hn::Set(d, block.start.cos[j]),
               start_sin = hn::Set(d, block.start.sin[j]);
      for (int64_t lane = 0; lane < kStepsTogether; lane += kLanes) {
        float *x = keys + j * kStrip + i + lane, *y = x + half * kStrip;
        const Vf step_cos = load(cos), step_sin = load(sin);
        const Vf c = hn::NegMulAdd(start_sin, step_sin, hn::Mul(start_cos, step_cos));
        const Vf s = hn::MulAdd(start_sin, step_cos, hn::Mul(start_cos, step_sin));
        const Vf a = load(x), b = load(y);
        hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), Df(), x);
        hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), Df(), y);
        cos += kLanes, sin += kLanes;
      }
    }
  }
}

// One KV head's keys from `token` of the block on, rotated, as (head_dim, kStrip); those outside
// the range are of no meaning. `part`: memory for the rows of a strip.
template <class T>
HWY_INLINE void load_strip(const KvBlock& block, int head_dim, int kv_head, int64_t token,
                           Range range, float* part, float* keys) {
  const T* k = static_cast<const T*>(block.k) +
               (static_cast<int64_t>(kv_head) * block.capacity + token) * head_dim;
  const Range own = intersect({range.begin - token, range.end - token}, {0, kStrip});
  if (own.size() < kStrip) {  // what is not in the range may not be read
    if (own.empty()) return;
    T* rows = reinterpret_cast<T*>(part);
    std::fill_n(rows, kStrip * head_dim, T{});
    std::copy(k + own.begin * head_dim, k + own.end * head_dim, rows + own.begin * head_dim);
    k = rows;
  }
  constexpr int kKeys = kBlockKeys<T>;
  for (int i = 0; i < kStrip; i += kKeys) {
    const T* rows = k + i * head_dim;
    int c = 0;
    for (; c + kBlockColumns <= head_dim; c += kBlockColumns)
      transpose_block(rows + c, head_dim, keys + c * kStrip + i);
    for (; c < head_dim; ++c)
      for (int key = 0; key < kKeys; ++key)
        keys[c * kStrip + i + key] = hn::GetLane(load_part(rows + key * head_dim + c, 1));
  }
  if (block.start.cos) rotate_strip(block, head_dim / 2, token, keys);
}

inline void load_strip(const KvBlock& block, int head_dim, int kv_head, int64_t token, Range range,
                       float* part, float* keys) {
  if (block.type == KvType::F16) {
    load_strip<uint16_t>(block, head_dim, kv_head, token, range, part, keys);
  } else {
    load_strip<float>(block, head_dim, kv_head, token, range, part, keys);
  }
}

// The strips of tile t, one after the other.
inline void load_keys(const KvBlock& block, int head_dim, int kv_head, int64_t t, Range range,
                      float* part, float* keys) {
  for (int i = 0; i < kTile; i += kStrip)
    load_strip(block, head_dim, kv_head, t * kTile + i, range, part, keys + i * head_dim);
}

template <class T>
HWY_INLINE void load_values(const KvBlock& block, int head_dim, int kv_head, int64_t t, Range range,
                            float* values) {
  const int width = padded(head_dim);
  const T* v = static_cast<const T*>(block.v) +
               (static_cast<int64_t>(kv_head) * block.capacity + t * kTile) * head_dim;
  for (int i = 0; i < kTile; ++i) {
    float* row = values + i * width;
    if (const int64_t token = t * kTile + i; token < range.begin || token >= range.end) {
      std::fill_n(row, width, 0.f);
    } else {
      widen(v + i * head_dim, head_dim, width, row);
    }
  }
}

// Values of tile t as (kTile, padded(head_dim)); zeros outside the range.
inline void load_values(const KvBlock& block, int head_dim, int kv_head, int64_t t, Range range,
                        float* values) {
  if (block.type == KvType::F16) {
    load_values<uint16_t>(block, head_dim, kv_head, t, range, values);
  } else {
    load_values<float>(block, head_dim, kv_head, t, range, values);
  }
}

// Vectors of outputs in a tile of R rows: few rows take more, to have enough sums under way.
template <int R>
constexpr int tile_vectors() {
  return kManyRegisters && R <= 4 && kTile % (4 * kLanes) == 0 ? 4 : kVectors;
}

// logits (R, kTile), from a strip's first on, of R rows of queries, interleaved and already scaled.
template <int R>
HWY_INLINE void strip_logits(const float* q, int head_dim, const float* keys, float* logits) {
  constexpr int kTileVectors = tile_vectors<R>();
  for (int column = 0; column < kStrip; column += kTileVectors * kLanes) {
    Tile<R, kTileVectors, Interleaved<R>> tile({q});
    tile.add(keys + column, kStrip, 0, head_dim);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < kTileVectors; ++v) {
        hn::StoreU(tile.sum[r][v], Df(), logits + r * kTile + column + v * kLanes);
      }
    }
  }
}

template <int R>
HWY_INLINE void tile_logits(const float* q, int head_dim, const float* keys, float* logits) {
  for (int i = 0; i < kTile; i += kStrip)
    strip_logits<R>(q, head_dim, keys + i * head_dim, logits + i);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
