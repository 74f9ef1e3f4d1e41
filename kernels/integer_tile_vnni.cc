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

// acc += products of kGroups groups of four inputs, rows side by side.
template <int R, int kGroups>
RINGTIDE_VNNI_INLINE void add_products(const uint8_t* code, const int8_t* x,
                                       __m512i (&acc)[R][2]) {
#pragma GCC unroll 8
  for (int g = 0; g < kGroups; ++g) {
    const __m512i w0 = _mm512_loadu_si512(code + g * kPanelBytes);
    const __m512i w1 = _mm512_loadu_si512(code + g * kPanelBytes + 64);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      add_four(acc[r][0], w0, x + g * 16 + r * 4);
      add_four(acc[r][1], w1, x + g * 16 + r * 4);
    }
  }
}

// Four rows side by side, or the first one or two of them. The sums stay in registers from part to
// part. More rows at once gain nothing: weights come from the first cache, and what follows a part
// is then too much to be hidden behind the products of the next.
template <int R, bool kWide, int kGroups, bool kMinimum>
RINGTIDE_VNNI __attribute__((noinline)) void tile_rows(const IntegerTile& t, int64_t row) {
  const uint8_t* code = t.code;
  const int8_t* high = t.x.high + t.byte_at(row, t.input);
  const int8_t* low = kWide ? t.x.low + t.byte_at(row, t.input) : nullptr;
  const float* factor = t.x.factor + t.factor_at(row, t.input);
  const float* sum_of_x = kMinimum ? t.x.sum + t.part_at(row, 0) : nullptr;
  const int32_t* bias = kMinimum ? nullptr : t.x.bias + t.part_at(row, 0);
  const float *scale = t.scale, *base = t.base;
  float* sums = t.sums + row * 32;
  __m512 sum[R][2];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    sum[r][0] = _mm512_loadu_ps(sums + r * 32);
    sum[r][1] = _mm512_loadu_ps(sums + r * 32 + 16);
  }
  for (int64_t part = 0; part < t.parts; ++part) {
    __m512i acc[R][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    add_products<R, kGroups>(code, high, acc);
    if constexpr (kWide) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        acc[r][0] = _mm512_slli_epi32(acc[r][0], 8);
        acc[r][1] = _mm512_slli_epi32(acc[r][1], 8);
      }
      add_products<R, kGroups>(code, low, acc);
    }
    const __m512 scale0 = _mm512_loadu_ps(scale), scale1 = _mm512_loadu_ps(scale + 16);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m512 own = _mm512_set1_ps(factor[r]);
      if constexpr (!kMinimum) {
        const __m512i less = _mm512_set1_epi32(bias[r]);
        acc[r][0] = _mm512_add_epi32(acc[r][0], less);
        acc[r][1] = _mm512_add_epi32(acc[r][1], less);
      }
      const __m512 products0 = _mm512_cvtepi32_ps(acc[r][0]);
      const __m512 products1 = _mm512_cvtepi32_ps(acc[r][1]);
      sum[r][0] = _mm512_fmadd_ps(products0, _mm512_mul_ps(scale0, own), sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(products1, _mm512_mul_ps(scale1, own), sum[r][1]);
      if constexpr (kMinimum) {
        const __m512 x = _mm512_set1_ps(sum_of_x[r]);
        sum[r][0] = _mm512_fmadd_ps(_mm512_loadu_ps(base), x, sum[r][0]);
        sum[r][1] = _mm512_fmadd_ps(_mm512_loadu_ps(base + 16), x, sum[r][1]);
      }
    }
    code += kGroups * kPanelBytes;
    high += kGroups * 16;
    if constexpr (kWide) low += kGroups * 16;
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
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    _mm512_storeu_ps(sums + r * 32, sum[r][0]);
    _mm512_storeu_ps(sums + r * 32 + 16, sum[r][1]);
  }
}

template <bool kWide, int kGroups, bool kMinimum>
RINGTIDE_VNNI void all_rows(const IntegerTile& t, int64_t rows) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) tile_rows<4, kWide, kGroups, kMinimum>(t, row);
  for (; row + 2 <= rows; row += 2) tile_rows<2, kWide, kGroups, kMinimum>(t, row);
  if (row < rows) tile_rows<1, kWide, kGroups, kMinimum>(t, row);
}

template <bool kWide, int kGroups>
RINGTIDE_VNNI void either(const IntegerTile& t, int64_t rows) {
  t.x.sum ? all_rows<kWide, kGroups, true>(t, rows) : all_rows<kWide, kGroups, false>(t, rows);
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
  if (t.part_groups == 8) {
    t.x.low ? either<true, 8>(t, rows) : either<false, 8>(t, rows);
  } else {
    t.x.low ? either<true, 4>(t, rows) : either<false, 4>(t, rows);
  }
}

}  // namespace ringtide::kernels

#else

namespace ringtide::kernels {

bool has_vnni() { return false; }
void allow_vnni(bool) {}
void vnni_tile(const IntegerTile&, int64_t) {}

}  // namespace ringtide::kernels

#endif
