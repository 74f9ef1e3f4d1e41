// Integer tiles with AVX512-VNNI: four products of bytes and their sum in one instruction.
// Highway's targets do not know these instructions; whether the processor does is asked at run
// time.
#include "kernels/integer_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

// g++ 12's own headers leave a vector undefined on purpose (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace ringtide::kernels {
namespace {

#define RINGTIDE_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define RINGTIDE_VNNI_INLINE RINGTIDE_VNNI __attribute__((always_inline)) inline

constexpr int64_t kPanelBytes = 128;  // codes of four inputs

RINGTIDE_VNNI_INLINE __m512i inputs(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}

// acc += products of `groups` groups of four inputs.
template <int R>
RINGTIDE_VNNI_INLINE void add_products(const uint8_t* code, const int8_t* x, int64_t row_bytes,
                                       int groups, __m512i (&acc)[R][2]) {
  for (int g = 0; g < groups; ++g, code += kPanelBytes, x += 4) {
    const __m512i w0 = _mm512_loadu_si512(code);
    const __m512i w1 = _mm512_loadu_si512(code + 64);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512i four = inputs(x + r * row_bytes);
      acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], w0, four);
      acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], w1, four);
    }
  }
}

template <int R, bool kWide>
RINGTIDE_VNNI __attribute__((noinline)) void tile_rows(const IntegerTile& t) {
  const int part_inputs = 4 * t.part_groups;
  for (int64_t part = 0; part < t.parts; ++part) {
    const uint8_t* code = t.code + part * t.part_groups * kPanelBytes;
    const int64_t input = part * part_inputs;
    __m512i acc[R][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    add_products<R>(code, t.x.high + input, t.row_bytes, t.part_groups, acc);
    if constexpr (kWide) {
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        acc[r][0] = _mm512_slli_epi32(acc[r][0], 8);
        acc[r][1] = _mm512_slli_epi32(acc[r][1], 8);
      }
      add_products<R>(code, t.x.low + input, t.row_bytes, t.part_groups, acc);
    }
    const __m512 scale0 = _mm512_loadu_ps(t.scale + part * 32);
    const __m512 scale1 = _mm512_loadu_ps(t.scale + part * 32 + 16);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      float* sums = t.sums + r * 32;
      const __m512 factor = _mm512_set1_ps(t.x.factor[r * t.row_factors + input / kFactorInputs]);
      __m512 sum0 = _mm512_loadu_ps(sums), sum1 = _mm512_loadu_ps(sums + 16);
      if (t.x.bias) {
        const __m512i bias = _mm512_set1_epi32(t.x.bias[r * t.row_parts + part]);
        acc[r][0] = _mm512_add_epi32(acc[r][0], bias);
        acc[r][1] = _mm512_add_epi32(acc[r][1], bias);
      }
      sum0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][0]), _mm512_mul_ps(scale0, factor), sum0);
      sum1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][1]), _mm512_mul_ps(scale1, factor), sum1);
      if (t.x.sum) {
        const __m512 sum = _mm512_set1_ps(t.x.sum[r * t.row_parts + part]);
        sum0 = _mm512_fmadd_ps(_mm512_loadu_ps(t.base + part * 32), sum, sum0);
        sum1 = _mm512_fmadd_ps(_mm512_loadu_ps(t.base + part * 32 + 16), sum, sum1);
      }
      _mm512_storeu_ps(sums, sum0);
      _mm512_storeu_ps(sums + 16, sum1);
    }
  }
}

template <int R>
RINGTIDE_VNNI int tile(const IntegerTile& t) {
  t.x.low ? tile_rows<R, true>(t) : tile_rows<R, false>(t);
  return R;
}

RINGTIDE_VNNI int some_rows(const IntegerTile& t, int64_t rows) {
  if (rows >= 12) return tile<12>(t);
  if (rows >= 8) return tile<8>(t);
  if (rows >= 4) return tile<4>(t);
  if (rows >= 2) return tile<2>(t);
  return tile<1>(t);
}

}  // namespace

bool has_vnni() {
  static const bool has = __builtin_cpu_supports("avx512vnni") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

void vnni_tile(IntegerTile t, int64_t rows) {
  while (rows > 0) {
    const int done = some_rows(t, rows);
    rows -= done;
    t.x.high += done * t.row_bytes;
    if (t.x.low) t.x.low += done * t.row_bytes;
    t.x.factor += done * t.row_factors;
    if (t.x.bias) t.x.bias += done * t.row_parts;
    if (t.x.sum) t.x.sum += done * t.row_parts;
    t.sums += done * 32;
  }
}

}  // namespace ringtide::kernels

#else

namespace ringtide::kernels {

bool has_vnni() { return false; }
void vnni_tile(IntegerTile, int64_t) {}

}  // namespace ringtide::kernels

#endif
