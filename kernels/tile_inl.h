// The register tile under every product here: R rows of x by kVectors vectors of outputs.
//
// Lanes are outputs and x is broadcast, so each output is one chain of fused multiply-adds over k,
// the same whatever the tile's height: that is what makes results independent of the batch.
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_TILE_INL_H
#undef RINGTIDE_KERNELS_TILE_INL_H
#else
#define RINGTIDE_KERNELS_TILE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Rows of the tallest tile: 24 sums, two weights and one input fill 32 registers, 12 sums fill 16.
constexpr int kTileRows = kManyRegisters ? 12 : 6;

// Where the input of row r for weight k stands: rows `stride` apart, or the R inputs of one k side
// by side, which takes one pointer instead of one a row.
struct Rows {
  const float* x;
  int64_t stride;
  HWY_INLINE float operator()(int64_t k, int r) const { return x[r * stride + k]; }
};
template <int kStride>
struct FixedRows {
  const float* x;
  HWY_INLINE float operator()(int64_t k, int r) const { return x[r * kStride + k]; }
};
template <int R>
struct Interleaved {
  const float* x;
  HWY_INLINE float operator()(int64_t k, int r) const { return x[k * R + r]; }
};

// Sums of a tile; operator() takes the weights of input k.
template <int R, int kVectors_, class Input>
struct Tile {
  static constexpr int kVectors = kVectors_;
  Input x;
  Vf sum[R][kVectors];

  HWY_INLINE explicit Tile(Input input) : x(input) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(Df());
    }
  }

  // Sums that wait in memory, rows `stride` apart.
  HWY_INLINE void load_sums(const float* from, int64_t stride) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = load(from + r * stride + v * kLanes);
    }
  }
  HWY_INLINE void store_sums(float* to, int64_t stride) const {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], Df(), to + r * stride + v * kLanes);
    }
  }

  HWY_INLINE void operator()(int64_t k, const Vf (&w)[kVectors]) {
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      const Vf input = hn::Set(Df(), x(k, r));
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(input, w[v], sum[r][v]);
    }
  }

  // Adds the products of inputs [begin, end) with w (inputs, outputs), floats or halves, rows
  // `w_stride` apart.
  template <class T>
  HWY_INLINE void add(const T* HWY_RESTRICT w, int64_t w_stride, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) add(w + k * w_stride, k);
  }

  // Those of input k, whose weights are at w.
  template <class T>
  HWY_INLINE void add(const T* HWY_RESTRICT w, int64_t k) {
    Vf weights[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) weights[v] = load(w + v * kLanes);
    (*this)(k, weights);
  }
};

// The height of the next tile of so many rows: the greatest, but what is left after it of rows for
// two is halved. A low tile is few sums, which wait for each other.
constexpr int tile_height(int64_t rows) {
  if (rows >= 2 * kTileRows || rows == kTileRows) return kTileRows;
  const int height = static_cast<int>(rows > kTileRows ? (rows + 1) / 2 : rows);
  // Tiles of 7, or of 9 and more, are made of two.
  return height <= 6 || height == 8 ? height : (height + 1) / 2;
}

// Calls f.template operator()<R>() with the height of the next tile; returns it.
template <class F>
HWY_INLINE int with_rows(int64_t rows, const F& f) {
  const int height = tile_height(rows);
  switch (height) {
    case 1:
      f.template operator()<1>();
      break;
    case 2:
      f.template operator()<2>();
      break;
    case 3:
      f.template operator()<3>();
      break;
    case 4:
      f.template operator()<4>();
      break;
    case 5:
      f.template operator()<5>();
      break;
    case 6:
      f.template operator()<6>();
      break;
    case 8:
      if constexpr (kTileRows > 6) f.template operator()<8>();
      break;
    default:
      if constexpr (kTileRows > 6) f.template operator()<kTileRows>();
  }
  return height;
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
