// Products of codes with integer activations for every instruction set: rows side by side by
// vectors of outputs, over a part of the inputs that has one scale. Sums of integers are exact, so
// that all instruction sets agree.
#include "kernels/integer_rows.h"
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_INTEGER_PRODUCTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_INTEGER_PRODUCTS_INL_H
#undef RINGTIDE_KERNELS_INTEGER_PRODUCTS_INL_H
#else
#define RINGTIDE_KERNELS_INTEGER_PRODUCTS_INL_H
#endif

#undef RINGTIDE_BYTE_PAIRS
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSSE3
#define RINGTIDE_BYTE_PAIRS 1
#else
#define RINGTIDE_BYTE_PAIRS 0
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

using Vi = hn::Vec<Di>;
#if HWY_TARGET != HWY_SCALAR
using D16 = hn::Repartition<int16_t, Df>;
using V16 = hn::Vec<D16>;
#endif

// Keeps g++ 12 from adding up products before they go to their sums, which takes more registers
// than there are.
template <class V>
HWY_INLINE void hold(V& sum) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && defined(__OPTIMIZE__) && !defined(__clang__)
  asm("" : "+x"(sum.raw));
#endif
}

// sum += the products of both 16-bit halves of w and x, lane by lane. No sum of a part leaves 32
// bits: 32 inputs of at most 127 * 256 by codes of at most 255.
HWY_INLINE void add_pairs(Vi& sum, Vu w, Vi x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  Vi unused = hn::Zero(Di());
  sum = hn::ReorderWidenMulAccumulate(Di(), hn::BitCast(D16(), w), hn::BitCast(D16(), x), sum,
                                      unused);
  hold(sum);
#else
  const Vi low = hn::BitCast(Di(), hn::And(w, hn::Set(Du(), 0xffff)));
  const Vi high = hn::BitCast(Di(), hn::ShiftRight<16>(w));
  sum = hn::Add(sum, hn::Mul(low, hn::ShiftRight<16>(hn::ShiftLeft<16>(x))));
  sum = hn::Add(sum, hn::Mul(high, hn::ShiftRight<16>(x)));
#endif
}

// Activations as pairs of 16 bits, of four rows from one group of four inputs on.
struct PairRows {
  const int32_t* x;

  PairRows(const IntegerRows& rows, int64_t row, int64_t k, int64_t input)
      : x(rows.pairs + pair_index(row, k, input)) {}
  HWY_INLINE explicit PairRows(const int32_t* x) : x(x) {}
  HWY_INLINE PairRows from(int group) const { return PairRows(x + 8 * group); }

  // acc = the products of kGroups groups of codes; codes(g, v): a byte for each input of group g.
  template <int kBits, int kGroups, int R, int V, class Codes>
  HWY_INLINE void multiply(const Codes& codes, Vi (&acc)[R][V]) const {
    const Vu bytes = hn::Set(Du(), 0x00ff00ffu);
    HWY_UNROLL(4)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) acc[r][v] = hn::Zero(Di());
    }
    HWY_UNROLL(8)
    for (int g = 0; g < kGroups; ++g) {
      Vu w[V];
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) w[v] = codes(g, v);
      HWY_UNROLL(2)
      for (int pair = 0; pair < 2; ++pair) {
        Vu two[V];
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) two[v] = hn::And(w[v], bytes);
        HWY_UNROLL(4)
        for (int r = 0; r < R; ++r) {
          const Vi inputs = hn::Set(Di(), x[g * 8 + pair * 4 + r]);
          HWY_UNROLL(4)
          for (int v = 0; v < V; ++v) add_pairs(acc[r][v], two[v], inputs);
        }
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) w[v] = hn::ShiftRight<8>(w[v]);
      }
    }
  }
};

// Groups of four inputs whose sums stay within 16 bits: two products a group in each, of at most
// 128 times the greatest code.
constexpr int groups_in_16_bits(int bits) { return 32767 / (2 * 128 * ((1 << bits) - 1)); }

// Whether products with such codes can be those of bytes: codes need not come apart into 16 bits.
// Of more rows, for all of which they come apart once, sums in 16 bits cost what that saves.
constexpr bool takes_byte_pairs(const Coding& weights) {
  return RINGTIDE_BYTE_PAIRS && !weights.table && groups_in_16_bits(weights.bits) >= 2;
}
constexpr int64_t kByteRows = 3;

#if RINGTIDE_BYTE_PAIRS

// Products of unsigned with signed bytes, neighbours summed in 16 bits.
HWY_INLINE __m128i pair_sums(__m128i codes, __m128i x) { return _mm_maddubs_epi16(codes, x); }
HWY_INLINE __m128i widen_pairs(__m128i a, __m128i b) { return _mm_madd_epi16(a, b); }
#if HWY_TARGET <= HWY_AVX2
HWY_INLINE __m256i pair_sums(__m256i codes, __m256i x) { return _mm256_maddubs_epi16(codes, x); }
HWY_INLINE __m256i widen_pairs(__m256i a, __m256i b) { return _mm256_madd_epi16(a, b); }
#endif
#if HWY_TARGET <= HWY_AVX3
HWY_INLINE __m512i pair_sums(__m512i codes, __m512i x) { return _mm512_maddubs_epi16(codes, x); }
HWY_INLINE __m512i widen_pairs(__m512i a, __m512i b) { return _mm512_madd_epi16(a, b); }
#endif

// Activations as bytes, or as the high and low byte of 16 bits.
template <bool kWide>
struct ByteRows {
  const int8_t *high, *low;

  ByteRows(const IntegerRows& rows, int64_t row, int64_t k, int64_t input)
      : high(rows.high + 4 * row_index(row, k / 4, input / 4)),
        low(kWide ? rows.low + 4 * row_index(row, k / 4, input / 4) : nullptr) {}
  HWY_INLINE ByteRows(const int8_t* high, const int8_t* low) : high(high), low(low) {}
  HWY_INLINE ByteRows from(int group) const {
    return {high + 16 * group, kWide ? low + 16 * group : nullptr};
  }

  static HWY_INLINE Vi four(const int8_t* x) {
    int32_t bytes;
    __builtin_memcpy(&bytes, x, 4);
    return hn::Set(Di(), bytes);
  }
  static HWY_INLINE void add(V16& sum, Vu codes, Vi x, bool first) {
    const V16 products{pair_sums(codes.raw, x.raw)};
    sum = first ? products : hn::Add(sum, products);
    hold(sum);
  }

  template <int kBits, int kGroups, int R, int V, class Codes>
  HWY_INLINE void multiply(const Codes& codes, Vi (&acc)[R][V]) const {
    constexpr int kRun = groups_in_16_bits(kBits) >= kGroups ? kGroups
                         : groups_in_16_bits(kBits) >= 4     ? 4
                                                             : 2;
    const V16 one = hn::Set(D16(), 1), top = hn::Set(D16(), 256);
    HWY_UNROLL(4)
    for (int run = 0; run < kGroups; run += kRun) {
      V16 highs[R][V], lows[R][V];
      HWY_UNROLL(8)
      for (int g = run; g < run + kRun; ++g) {
        Vu w[V];
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) w[v] = codes(g, v);
        HWY_UNROLL(4)
        for (int r = 0; r < R; ++r) {
          const Vi x = four(high + g * 16 + r * 4);
          HWY_UNROLL(4)
          for (int v = 0; v < V; ++v) add(highs[r][v], w[v], x, g == run);
          if constexpr (kWide) {
            const Vi rest = four(low + g * 16 + r * 4);
            HWY_UNROLL(4)
            for (int v = 0; v < V; ++v) add(lows[r][v], w[v], rest, g == run);
          }
        }
      }
      HWY_UNROLL(4)
      for (int r = 0; r < R; ++r) {
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) {
          Vi sum{widen_pairs(highs[r][v].raw, kWide ? top.raw : one.raw)};
          if constexpr (kWide) sum = hn::Add(sum, Vi{widen_pairs(lows[r][v].raw, one.raw)});
          acc[r][v] = run == 0 ? sum : hn::Add(acc[r][v], sum);
          hold(acc[r][v]);
        }
      }
    }
  }
};

#endif  // RINGTIDE_BYTE_PAIRS

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
