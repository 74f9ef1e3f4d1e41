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

// x86 multiplies unsigned by signed bytes pairwise into 16 bits, where a few products can be added
// before they are widened: kSummed of them stay exact. Codes of 8 bits are taken as two of 4. The
// empty statements keep g++ from multiplying everything first, which takes more registers than
// there are.
#undef RINGTIDE_BYTE_PAIRS
#if HWY_TARGET == HWY_AVX3
#define RINGTIDE_BYTE_PAIRS 1
using Words = __m512i;
HWY_INLINE Words no_words() { return _mm512_setzero_si512(); }
HWY_INLINE Words add_bytes(Words sum, Vu w, Vi x) {
  sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(w.raw, x.raw));
  asm volatile("" : "+v"(sum));
  return sum;
}
HWY_INLINE Vi widened(Words sum, int16_t factor) {
  return Vi{_mm512_madd_epi16(sum, _mm512_set1_epi16(factor))};
}
#elif HWY_TARGET == HWY_AVX2
#define RINGTIDE_BYTE_PAIRS 1
using Words = __m256i;
HWY_INLINE Words no_words() { return _mm256_setzero_si256(); }
HWY_INLINE Words add_bytes(Words sum, Vu w, Vi x) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w.raw, x.raw));
  asm volatile("" : "+x"(sum));
  return sum;
}
HWY_INLINE Vi widened(Words sum, int16_t factor) {
  return Vi{_mm256_madd_epi16(sum, _mm256_set1_epi16(factor))};
}
#else
#define RINGTIDE_BYTE_PAIRS 0
// Sums of products of four unsigned bytes of w and four signed bytes of x in each lane.
HWY_INLINE Vi dot4(Vu w, Vi x) {
  const Vu byte = hn::Set(Du(), 255);
  const auto code = [&](Vu v) HWY_ATTR { return hn::BitCast(Di(), hn::And(v, byte)); };
  Vi sum = hn::Mul(code(w), hn::ShiftRight<24>(hn::ShiftLeft<24>(x)));
  sum = hn::Add(sum, hn::Mul(code(hn::ShiftRight<8>(w)), hn::ShiftRight<24>(hn::ShiftLeft<16>(x))));
  sum = hn::Add(sum, hn::Mul(code(hn::ShiftRight<16>(w)), hn::ShiftRight<24>(hn::ShiftLeft<8>(x))));
  return hn::Add(sum, hn::Mul(code(hn::ShiftRight<24>(w)), hn::ShiftRight<24>(x)));
}
#endif

// V vectors of outputs from `column` on; kBits 4, 5, 6 or 8 bound the codes.
template <int kBits, int V>
struct IntegerTileRows {
  const IntegerTile& t;
  int64_t row, column;

  static HWY_INLINE Vu load_codes(const uint8_t* code, int v) {
    return hn::LoadU(Du(), reinterpret_cast<const uint32_t*>(code) + v * kLanes);
  }
  HWY_INLINE Vi inputs(const int8_t* x, int r) const {
    int32_t four;
    std::memcpy(&four, x + r / 4 * 4 * t.k + r % 4 * 4, 4);
    return hn::Set(Di(), four);
  }

  static HWY_INLINE void add_to(int32_t* sum, Vi v) {
    hn::Store(hn::Add(hn::Load(Di(), sum), v), Di(), sum);
  }

#if RINGTIDE_BYTE_PAIRS
  // 2 * 128 * 15 * 8 < 2^15, and so on.
  static constexpr int kSummed = kBits == 5 ? 4 : kBits == 6 ? 2 : 8;

  template <int R>
  HWY_INLINE void products(const uint8_t* code, const int8_t* x,
                           int32_t (&acc)[R][V * kLanes]) const {
    constexpr int kParts = kBits == 8 ? 2 : 1;
    const Vu nibbles = hn::Set(Du(), 0x0f0f0f0fu);
    for (int from = 0; from < t.part_groups; from += kSummed) {
      Words sums[R][V][kParts];
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) {
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) {
          for (int part = 0; part < kParts; ++part) sums[r][v][part] = no_words();
        }
      }
      const int to = HWY_MIN(from + kSummed, t.part_groups);
      for (int g = from; g < to; ++g, code += 4 * 32, x += 16) {
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) {
          Vu w[kParts] = {load_codes(code, v)};
          if constexpr (kParts == 2) {
            w[1] = hn::And(hn::ShiftRight<4>(w[0]), nibbles);
            w[0] = hn::And(w[0], nibbles);
          }
          HWY_UNROLL(16)
          for (int r = 0; r < R; ++r) {
            const Vi four = inputs(x, r);
            for (int part = 0; part < kParts; ++part) {
              sums[r][v][part] = add_bytes(sums[r][v][part], w[part], four);
            }
          }
        }
      }
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) {
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) {
          Vi sum = widened(sums[r][v][0], 1);
          if constexpr (kParts == 2) sum = hn::Add(sum, widened(sums[r][v][1], 16));
          add_to(acc[r] + v * kLanes, sum);
        }
      }
    }
  }
#else
  template <int R>
  HWY_INLINE void products(const uint8_t* code, const int8_t* x,
                           int32_t (&acc)[R][V * kLanes]) const {
    for (int g = 0; g < t.part_groups; ++g, code += 4 * 32, x += 16) {
      Vu w[V];
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) w[v] = load_codes(code, v);
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) {
        const Vi four = inputs(x, r);
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) add_to(acc[r] + v * kLanes, dot4(w[v], four));
      }
    }
  }
#endif

  template <int R>
  HWY_NOINLINE void operator()() const {
    for (int64_t part = 0; part < t.parts; ++part) {
      const int64_t input = t.input + part * 4 * t.part_groups;
      const uint8_t* code = t.code + (part * t.part_groups * 32 + column) * 4;
      const int64_t at = t.byte_at(row, input);
      // In memory: registers are for what the products add up.
      HWY_ALIGN int32_t acc[R][V * kLanes] = {};
      products<R>(code, t.x.high + at, acc);
      if (t.x.low) {
        for (int32_t* sum = acc[0]; sum < acc[0] + R * V * kLanes; sum += kLanes) {
          hn::Store(hn::ShiftLeft<8>(hn::Load(Di(), sum)), Di(), sum);
        }
        products<R>(code, t.x.low + at, acc);
      }
      HWY_UNROLL(16)
      for (int r = 0; r < R; ++r) add_to_sums(part, input, row + r, acc[r]);
    }
  }

  HWY_INLINE void add_to_sums(int64_t part, int64_t input, int64_t r, const int32_t* acc) const {
    const Df d;
    const Vf factor = hn::Set(d, t.x.factor[t.factor_at(r, input)]);
    const int64_t own = t.part_at(r, part);
    const Vi bias = hn::Set(Di(), t.x.bias ? t.x.bias[own] : 0);
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) {
      const int64_t output = column + v * kLanes;
      float* sums = t.sums + r * 32 + output;
      const Vf scale = hn::Mul(load(t.scale + part * 32 + output), factor);
      Vf sum = hn::MulAdd(hn::ConvertTo(d, hn::Add(hn::Load(Di(), acc + v * kLanes), bias)), scale,
                          load(sums));
      if (t.x.sum) {
        sum = hn::MulAdd(load(t.base + part * 32 + output), hn::Set(d, t.x.sum[own]), sum);
      }
      hn::StoreU(sum, d, sums);
    }
  }
};

// Adds to the sums of all `rows`. Fours of rows stay whole.
template <int kBits>
HWY_INLINE void integer_tile(const IntegerTile& t, int64_t rows) {
  // Two sums a code of 8 bits: half the vectors, for the sake of registers.
  constexpr int V = RINGTIDE_BYTE_PAIRS && kBits == 8 && !kManyRegisters ? 1 : 2;
  const auto columns = [&](int64_t row, const auto& height) HWY_ATTR {
    for (int64_t column = 0; column < 32; column += V * kLanes) {
      height(IntegerTileRows<kBits, V>{t, row, column});
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
