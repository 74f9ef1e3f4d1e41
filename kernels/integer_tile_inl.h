// Integer tiles for every instruction set. Sums of integers are exact, so that all agree.
#include <cstring>

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

// Sums of products of four unsigned bytes of w and four signed bytes of x in each lane.
//
// x86 multiplies bytes pairwise into 16 bits, which saturate: codes below 128 fit (2 * 127 * 128),
// wider ones are halved into nibbles.
#if HWY_TARGET == HWY_AVX3
HWY_INLINE Vi dot4(Vu w, Vi x) {
  const __m512i pairs = _mm512_maddubs_epi16(w.raw, x.raw);
  return Vi{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))};
}
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE Vi dot4(Vu w, Vi x) {
  const __m256i pairs = _mm256_maddubs_epi16(w.raw, x.raw);
  return Vi{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))};
}
#else
HWY_INLINE Vi dot4(Vu w, Vi x) {
  const Vu byte = hn::Set(Du(), 255);
  const auto code = [&](Vu v) HWY_ATTR { return hn::BitCast(Di(), hn::And(v, byte)); };
  Vi sum = hn::Mul(code(w), hn::ShiftRight<24>(hn::ShiftLeft<24>(x)));
  sum = hn::Add(sum, hn::Mul(code(hn::ShiftRight<8>(w)), hn::ShiftRight<24>(hn::ShiftLeft<16>(x))));
  sum = hn::Add(sum, hn::Mul(code(hn::ShiftRight<16>(w)), hn::ShiftRight<24>(hn::ShiftLeft<8>(x))));
  return hn::Add(sum, hn::Mul(code(hn::ShiftRight<24>(w)), hn::ShiftRight<24>(x)));
}
#endif

// Codes of four inputs for V vectors of outputs.
template <int V, bool kWideCodes>
struct Codes {
  Vu low[V], high[V];
  HWY_INLINE explicit Codes(const uint8_t* code) {
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) {
      low[v] = hn::LoadU(Du(), reinterpret_cast<const uint32_t*>(code) + v * kLanes);
      if constexpr (kWideCodes) {
        const Vu nibbles = hn::Set(Du(), 0x0f0f0f0fu);
        high[v] = hn::And(hn::ShiftRight<4>(low[v]), nibbles);
        low[v] = hn::And(low[v], nibbles);
      }
    }
  }
  HWY_INLINE Vi times(int v, Vi x) const {
    const Vi sum = dot4(low[v], x);
    if constexpr (!kWideCodes) return sum;
    return hn::Add(sum, hn::ShiftLeft<4>(dot4(high[v], x)));
  }
};

// V vectors of outputs from `column` on.
template <bool kWideCodes, int V>
struct IntegerTileRows {
  const IntegerTile& t;
  int64_t row, column;

  template <int R>
  HWY_INLINE void products(const uint8_t* code, const int8_t* x, Vi (&acc)[R][V]) const {
    for (int g = 0; g < t.part_groups; ++g, code += 4 * 32, x += 16) {
      const Codes<V, kWideCodes> w(code);
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) {
        int32_t four;
        std::memcpy(&four, x + r / 4 * 4 * t.k + r % 4 * 4, 4);
        const Vi inputs = hn::Set(Di(), four);
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) acc[r][v] = hn::Add(acc[r][v], w.times(v, inputs));
      }
    }
  }

  template <int R>
  HWY_NOINLINE void operator()() const {
    for (int64_t part = 0; part < t.parts; ++part) {
      const int64_t input = t.input + part * 4 * t.part_groups;
      const uint8_t* code = t.code + (part * t.part_groups * 32 + column) * 4;
      const int64_t at = t.byte_at(row, input);
      Vi acc[R][V];
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) {
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) acc[r][v] = hn::Zero(Di());
      }
      products<R>(code, t.x.high + at, acc);
      if (t.x.low) {
        HWY_UNROLL(16)
        for (int r = 0; r < R; ++r) {
          HWY_UNROLL(4)
          for (int v = 0; v < V; ++v) acc[r][v] = hn::ShiftLeft<8>(acc[r][v]);
        }
        products<R>(code, t.x.low + at, acc);
      }
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) add_to_sums(part, input, row + r, acc[r]);
    }
  }

  HWY_INLINE void add_to_sums(int64_t part, int64_t input, int64_t r, const Vi (&acc)[V]) const {
    const Df d;
    const Vf factor = hn::Set(d, t.x.factor[t.factor_at(r, input)]);
    const int64_t own = t.part_at(r, input);
    const Vi bias = hn::Set(Di(), t.x.bias ? t.x.bias[own] : 0);
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) {
      const int64_t output = column + v * kLanes;
      float* sums = t.sums + r * 32 + output;
      const Vf scale = hn::Mul(load(t.scale + part * 32 + output), factor);
      Vf sum = hn::MulAdd(hn::ConvertTo(d, hn::Add(acc[v], bias)), scale, load(sums));
      if (t.x.sum) {
        sum = hn::MulAdd(load(t.base + part * 32 + output), hn::Set(d, t.x.sum[own]), sum);
      }
      hn::StoreU(sum, d, sums);
    }
  }
};

// Adds to the sums of all `rows`. Fours of rows stay whole.
template <bool kWideCodes>
HWY_INLINE void integer_tile(const IntegerTile& t, int64_t rows) {
  constexpr int V = 2;
  const auto columns = [&](int64_t row, const auto& height) HWY_ATTR {
    for (int64_t column = 0; column < 32; column += V * kLanes) {
      height(IntegerTileRows<kWideCodes, V>{t, row, column});
    }
  };
  int64_t row = 0;
  if constexpr (kManyRegisters) {
    for (; row + 8 <= rows; row += 8) {
      columns(row, [](const auto& tile) { tile.template operator()<8>(); });
    }
  }
  for (; row + 4 <= rows; row += 4) {
    columns(row, [](const auto& tile) { tile.template operator()<4>(); });
  }
  for (; row + 2 <= rows; row += 2) {
    columns(row, [](const auto& tile) { tile.template operator()<2>(); });
  }
  if (row < rows) columns(row, [](const auto& tile) { tile.template operator()<1>(); });
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
