// Integer tiles for every instruction set: codes that were taken apart in memory, by many rows.
#include "kernels/integer_products_inl.h"
#include "kernels/integer_tile.h"
#include "kernels/panel.h"

#if defined(RINGTIDE_KERNELS_INTEGER_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_INTEGER_TILE_INL_H
#undef RINGTIDE_KERNELS_INTEGER_TILE_INL_H
#else
#define RINGTIDE_KERNELS_INTEGER_TILE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

struct TileCodes {
  const uint8_t* code;  // at the first output
  HWY_INLINE Vu operator()(int g, int v) const {
    return hn::LoadU(Du(), reinterpret_cast<const uint32_t*>(code) + g * kPanel + v * kLanes);
  }
};

// Rows [row, row + R), of one four, by two vectors of outputs from `column` on.
template <int R, int kGroups, bool kMinimum>
HWY_NOINLINE void tile_rows(const IntegerTile& t, int64_t row, int64_t column) {
  const Df d;
  TileCodes codes{t.code + column * 4};
  PairRows x(t.x, t.row + row, t.k, t.input);
  const float* factor = t.x.factor + t.factor_at(row, t.input);
  const float* sum_of_x = kMinimum ? t.x.sum + t.part_at(row, 0) : nullptr;
  const int32_t* bias = kMinimum ? nullptr : t.x.bias + t.part_at(row, 0);
  const float *scale = t.scale + column, *base = kMinimum ? t.base + column : nullptr;
  float* sums = t.sums + row * kPanel + column;
  for (int64_t part = 0; part < t.parts; ++part) {
    Vi acc[R][2];
    x.multiply<8, kGroups>(codes, acc);
    HWY_UNROLL(4)
    for (int r = 0; r < R; ++r) {
      const Vf own = hn::Set(d, factor[r]);
      HWY_UNROLL(2)
      for (int v = 0; v < 2; ++v) {
        float* at = sums + r * kPanel + v * kLanes;
        if constexpr (!kMinimum) acc[r][v] = hn::Add(acc[r][v], hn::Set(Di(), bias[r]));
        Vf sum = hn::MulAdd(hn::ConvertTo(d, acc[r][v]), hn::Mul(load(scale + v * kLanes), own),
                            load(at));
        if constexpr (kMinimum) {
          sum = hn::MulAdd(load(base + v * kLanes), hn::Set(d, sum_of_x[r]), sum);
        }
        hn::StoreU(sum, d, at);
      }
    }
    codes.code += kGroups * 4 * kPanel;
    x = x.from(kGroups);
    // A factor is of 32 inputs, a part may be of 16.
    if (kGroups == 8 || part % 2 == 1) factor += 4;
    if constexpr (kMinimum) {
      sum_of_x += 4;
      base += kPanel;
    } else {
      bias += 4;
    }
    scale += kPanel;
  }
}

template <int kGroups, bool kMinimum>
HWY_INLINE void all_rows(const IntegerTile& t, int64_t rows) {
  for (int64_t column = 0; column < kPanel; column += 2 * kLanes) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) tile_rows<4, kGroups, kMinimum>(t, row, column);
    for (; row + 2 <= rows; row += 2) tile_rows<2, kGroups, kMinimum>(t, row, column);
    if (row < rows) tile_rows<1, kGroups, kMinimum>(t, row, column);
  }
}

// Adds to the sums of all `rows`. Fours of rows stay whole.
HWY_INLINE void integer_tile(const IntegerTile& t, int64_t rows) {
  if (t.part_groups == 8) {
    t.x.sum ? all_rows<8, true>(t, rows) : all_rows<8, false>(t, rows);
  } else {
    t.x.sum ? all_rows<4, true>(t, rows) : all_rows<4, false>(t, rows);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
