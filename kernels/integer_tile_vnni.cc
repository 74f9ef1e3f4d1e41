// Integer tiles with AVX512-VNNI: four products of bytes and their sum in one instruction.
// Highway's targets do not know these instructions; whether the processor does is asked at run
// time.
#include "kernels/integer_tile.h"

#if defined(__x86_64__)
#include <atomic>

#include "kernels/vnni_inl.h"

namespace ringtide::kernels {
namespace {

std::atomic<bool> allowed{true};

constexpr int64_t kPanelBytes = 128;  // codes of four inputs

// acc += products of `groups` groups of four inputs; four rows side by side, then the next four
// `quad` bytes further. R < 4 rows lie within one four.
template <int R>
RINGTIDE_VNNI_INLINE void add_products(const uint8_t* code, const int8_t* x, int64_t quad,
                                       int groups, __m512i (&acc)[R][2]) {
  for (int g = 0; g < groups; ++g, code += kPanelBytes, x += 16) {
    const __m512i w0 = _mm512_loadu_si512(code);
    const __m512i w1 = _mm512_loadu_si512(code + 64);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const int8_t* four = x + r / 4 * quad + r % 4 * 4;
      add_four(acc[r][0], w0, four);
      add_four(acc[r][1], w1, four);
    }
  }
}

template <int R, bool kWide>
RINGTIDE_VNNI __attribute__((noinline)) void tile_rows(const IntegerTile& t, int64_t row) {
  const int64_t quad = 4 * t.k;
  for (int64_t part = 0; part < t.parts; ++part) {
    const uint8_t* code = t.code + part * t.part_groups * kPanelBytes;
    const int64_t input = t.input + part * 4 * t.part_groups;
    __m512i acc[R][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    add_products<R>(code, t.x.high + t.byte_at(row, input), quad, t.part_groups, acc);
    if constexpr (kWide) {
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        acc[r][0] = _mm512_slli_epi32(acc[r][0], 8);
        acc[r][1] = _mm512_slli_epi32(acc[r][1], 8);
      }
      add_products<R>(code, t.x.low + t.byte_at(row, input), quad, t.part_groups, acc);
    }
    const __m512 scale0 = _mm512_loadu_ps(t.scale + part * 32);
    const __m512 scale1 = _mm512_loadu_ps(t.scale + part * 32 + 16);
    const float* factors = t.x.factor + t.factor_at(row, input);
    const int64_t first = t.part_at(row, part);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      float* sums = t.sums + (row + r) * 32;
      const __m512 factor = _mm512_set1_ps(factors[r / 4 * (t.k / 8) + r % 4]);
      const int64_t at = first + r / 4 * 4 * t.row_parts + r % 4;
      __m512 sum0 = _mm512_loadu_ps(sums), sum1 = _mm512_loadu_ps(sums + 16);
      if (t.x.bias) {
        const __m512i bias = _mm512_set1_epi32(t.x.bias[at]);
        acc[r][0] = _mm512_add_epi32(acc[r][0], bias);
        acc[r][1] = _mm512_add_epi32(acc[r][1], bias);
      }
      sum0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][0]), _mm512_mul_ps(scale0, factor), sum0);
      sum1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][1]), _mm512_mul_ps(scale1, factor), sum1);
      if (t.x.sum) {
        const __m512 sum = _mm512_set1_ps(t.x.sum[at]);
        sum0 = _mm512_fmadd_ps(_mm512_loadu_ps(t.base + part * 32), sum, sum0);
        sum1 = _mm512_fmadd_ps(_mm512_loadu_ps(t.base + part * 32 + 16), sum, sum1);
      }
      _mm512_storeu_ps(sums, sum0);
      _mm512_storeu_ps(sums + 16, sum1);
    }
  }
}

template <int R>
RINGTIDE_VNNI int tile(const IntegerTile& t, int64_t row) {
  t.x.low ? tile_rows<R, true>(t, row) : tile_rows<R, false>(t, row);
  return R;
}

RINGTIDE_VNNI int some_rows(const IntegerTile& t, int64_t row, int64_t left) {
  if (left >= 12) return tile<12>(t, row);
  if (left >= 8) return tile<8>(t, row);
  if (left >= 4) return tile<4>(t, row);
  if (left >= 2) return tile<2>(t, row);
  return tile<1>(t, row);
}

}  // namespace

bool has_vnni() {
  static const bool has = __builtin_cpu_supports("avx512vnni") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has && allowed.load(std::memory_order_relaxed);
}

void allow_vnni(bool allow) { allowed.store(allow, std::memory_order_relaxed); }

void vnni_tile(const IntegerTile& t, int64_t rows) {
  for (int64_t row = 0; row < rows;) row += some_rows(t, row, rows - row);
}

}  // namespace ringtide::kernels

#else

namespace ringtide::kernels {

bool has_vnni() { return false; }
void allow_vnni(bool) {}
void vnni_tile(const IntegerTile&, int64_t) {}

}  // namespace ringtide::kernels

#endif
