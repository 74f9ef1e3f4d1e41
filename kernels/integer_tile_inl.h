// Integer tiles for every instruction set: two inputs in each lane, as 16-bit integers. Sums of
// integers are exact, so that all agree.
#include "kernels/integer_tile.h"
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_INTEGER_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_INTEGER_TILE_INL_H
#undef RINGTIDE_KERNELS_INTEGER_TILE_INL_H
#else
#define RINGTIDE_KERNELS_INTEGER_TILE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

using Vi = hn::Vec<Di>;

// sum += the products of both 16-bit halves of w and x, lane by lane. No sum of a part leaves 32
// bits: 32 inputs of at most 127 * 256 by codes of at most 255.
HWY_INLINE Vi add_pairs(Vi sum, Vu w, Vi x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  const hn::Repartition<int16_t, Df> d16;
  Vi unused = hn::Zero(Di());
  sum = hn::ReorderWidenMulAccumulate(Di(), hn::BitCast(d16, w), hn::BitCast(d16, x), sum, unused);
  // Keeps g++ 12 from adding up products before they go to their sums, which takes more registers
  // than there are.
#if defined(__OPTIMIZE__) && !defined(__clang__)
  asm("" : "+x"(sum.raw));
#endif
  return sum;
#else
  const Vi low = hn::BitCast(Di(), hn::And(w, hn::Set(Du(), 0xffff)));
  const Vi high = hn::BitCast(Di(), hn::ShiftRight<16>(w));
  sum = hn::Add(sum, hn::Mul(low, hn::ShiftRight<16>(hn::ShiftLeft<16>(x))));
  return hn::Add(sum, hn::Mul(high, hn::ShiftRight<16>(x)));
#endif
}

// acc += products of kGroups groups of four inputs, R rows side by side.
template <int R, int kGroups>
HWY_INLINE void add_products(const uint8_t* code, const int32_t* x, Vi (&acc)[R][2]) {
  const Vu bytes = hn::Set(Du(), 0x00ff00ffu);
  HWY_UNROLL(8)
  for (int g = 0; g < kGroups; ++g, x += 8) {
    const auto* words = reinterpret_cast<const uint32_t*>(code) + g * 32;
    Vu w[2] = {hn::LoadU(Du(), words), hn::LoadU(Du(), words + kLanes)};
    HWY_UNROLL(2)
    for (int pair = 0; pair < 2; ++pair) {
      const Vu w0 = hn::And(w[0], bytes), w1 = hn::And(w[1], bytes);
      HWY_UNROLL(4)
      for (int r = 0; r < R; ++r) {
        const Vi two = hn::Set(Di(), x[pair * 4 + r]);
        acc[r][0] = add_pairs(acc[r][0], w0, two);
        acc[r][1] = add_pairs(acc[r][1], w1, two);
      }
      w[0] = hn::ShiftRight<8>(w[0]);
      w[1] = hn::ShiftRight<8>(w[1]);
    }
  }
}

// Rows [row, row + R), of one four, by two vectors of outputs from `column` on.
template <int R, int kGroups, bool kMinimum>
HWY_NOINLINE void integer_rows(const IntegerTile& t, int64_t row, int64_t column) {
  const Df d;
  const uint8_t* code = t.code + column * 4;
  const int32_t* x = t.x.pairs + pair_index(t.row + row, t.k, t.input);
  const float* factor = t.x.factor + t.factor_at(row, t.input);
  const float* sum_of_x = kMinimum ? t.x.sum + t.part_at(row, 0) : nullptr;
  const int32_t* bias = kMinimum ? nullptr : t.x.bias + t.part_at(row, 0);
  const float *scale = t.scale + column, *base = kMinimum ? t.base + column : nullptr;
  float* sums = t.sums + row * 32 + column;
  for (int64_t part = 0; part < t.parts; ++part) {
    Vi acc[R][2];
    HWY_UNROLL(4)
    for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = hn::Zero(Di());
    add_products<R, kGroups>(code, x, acc);
    HWY_UNROLL(4)
    for (int r = 0; r < R; ++r) {
      const Vf own = hn::Set(d, factor[r]);
      HWY_UNROLL(2)
      for (int v = 0; v < 2; ++v) {
        float* at = sums + r * 32 + v * kLanes;
        if constexpr (!kMinimum) acc[r][v] = hn::Add(acc[r][v], hn::Set(Di(), bias[r]));
        Vf sum = hn::MulAdd(hn::ConvertTo(d, acc[r][v]), hn::Mul(load(scale + v * kLanes), own),
                            load(at));
        if constexpr (kMinimum) {
          sum = hn::MulAdd(load(base + v * kLanes), hn::Set(d, sum_of_x[r]), sum);
        }
        hn::StoreU(sum, d, at);
      }
    }
    code += kGroups * 4 * 32;
    x += kGroups * 8;
    // A factor is of 32 inputs, a part may be of 16.
    if (kGroups == 8 || part % 2 == 1) factor += 4;
    if constexpr (kMinimum) {
      sum_of_x += 4;
      base += 32;
    } else {
      bias += 4;
    }
    scale += 32;
  }
}

template <int kGroups, bool kMinimum>
HWY_INLINE void all_rows(const IntegerTile& t, int64_t rows) {
  for (int64_t column = 0; column < 32; column += 2 * kLanes) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) integer_rows<4, kGroups, kMinimum>(t, row, column);
    for (; row + 2 <= rows; row += 2) integer_rows<2, kGroups, kMinimum>(t, row, column);
    if (row < rows) integer_rows<1, kGroups, kMinimum>(t, row, column);
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
