// Products of bfloat16 weights with activations rounded to bfloat16, by AVX512-BF16: two products
// and their sum in one instruction, in float32. Highway's targets do not know these instructions.
#include "kernels/panel.h"
#include "kernels/product.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

// g++ 12's own headers leave a vector undefined on purpose (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace ringtide::kernels {
namespace {

#define RINGTIDE_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define RINGTIDE_BF16_INLINE RINGTIDE_BF16 __attribute__((always_inline)) inline

constexpr int64_t kWholeRows = 12;  // of the tallest tile
constexpr int64_t kFewRows = 16;

// Activations, as pairs of inputs: (rows / 4, pairs, 4 rows), so that a tile has one pointer for
// four rows.
struct Pairs {
  const uint32_t* data;
  int64_t count;  // of a row
};

// Rounds one row to nearest even. An odd last input has a zero beside it.
RINGTIDE_BF16 void round_row(const float* x, int64_t k, uint32_t* to) {
  alignas(64) uint32_t pairs[16];
  for (int64_t i = 0; i < k; i += 32) {
    const int64_t left = std::min<int64_t>(32, k - i);
    const auto mask = static_cast<uint32_t>((uint64_t{1} << left) - 1);
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x + i);
    const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + i + 16);
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    __builtin_memcpy(pairs, &both, sizeof pairs);
    for (int64_t j = 0; j < (left + 1) / 2; ++j) to[4 * (i / 2 + j)] = pairs[j];
  }
}

// acc += both products of the pairs of w with the pair at x. Written out as in
// integer_tile_vnni.cc, for the same reason.
RINGTIDE_BF16_INLINE void add_pair(__m512& acc, __m512i w, const uint32_t* x) {
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*x));
}

template <int R>
RINGTIDE_BF16 __attribute__((noinline)) void tile_rows(const Product& p, const Pairs& x,
                                                       const std::byte* panel, int64_t row,
                                                       int64_t output) {
  __m512 acc[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
  const uint32_t* pairs = x.data + (row / 4 * x.count) * 4 + row % 4;
  const int64_t quad = 4 * x.count;
  for (int64_t i = 0; i < x.count; ++i, panel += kPanel * 4, pairs += 4) {
    const __m512i w0 = _mm512_loadu_si512(panel);
    const __m512i w1 = _mm512_loadu_si512(panel + 64);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      add_pair(acc[r][0], w0, pairs + r / 4 * quad + r % 4);
      add_pair(acc[r][1], w1, pairs + r / 4 * quad + r % 4);
    }
  }
  const int64_t left = std::min(kPanel, p.w.n - output);
  const auto mask = static_cast<uint32_t>((uint64_t{1} << left) - 1);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    float* y = p.y + (row + r) * p.w.n + output;
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const auto own = static_cast<__mmask16>(mask >> (16 * v));
      if (p.write == Write::Add) {
        acc[r][v] = _mm512_add_ps(_mm512_maskz_loadu_ps(own, y + 16 * v), acc[r][v]);
      }
      _mm512_mask_storeu_ps(y + 16 * v, own, acc[r][v]);
    }
  }
}

RINGTIDE_BF16 int some_rows(const Product& p, const Pairs& x, const std::byte* panel, int64_t row,
                            int64_t left, int64_t output) {
  if (left >= 12) return tile_rows<12>(p, x, panel, row, output), 12;
  if (left >= 8) return tile_rows<8>(p, x, panel, row, output), 8;
  if (left >= 4) return tile_rows<4>(p, x, panel, row, output), 4;
  if (left >= 2) return tile_rows<2>(p, x, panel, row, output), 2;
  return tile_rows<1>(p, x, panel, row, output), 1;
}

}  // namespace

bool has_bfloat_products() {
  static const bool has = __builtin_cpu_supports("avx512bf16") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

void multiply_bfloat(const Product& p, ThreadPool& threads) {
  const int64_t count = (p.w.k + 1) / 2;
  const int64_t bytes = (p.m + 3) / 4 * 4 * count * 4;
  auto* pairs = reinterpret_cast<uint32_t*>(threads.scratch(0, static_cast<size_t>(bytes)));
  const auto round = [&](int64_t r, int) {
    round_row(p.x + r * p.w.k, p.w.k, pairs + (r / 4 * count) * 4 + r % 4);
  };
  if (p.m <= kFewRows) {
    for (int64_t r = 0; r < p.m; ++r) round(r, 0);
  } else {
    threads.parallel_for(p.m, round);
  }
  const Pairs x{pairs, count};
  const int64_t panels = panel_count(p.w.n), size = panel_bytes(TensorType::BF16, p.w.k);
  const int64_t chunk = 12 * kWholeRows, chunks = (p.m + chunk - 1) / chunk;
  const int64_t parts = p.m <= kFewRows ? std::min<int64_t>(panels, 4 * threads.size()) : panels;
  threads.parallel_for(chunks * parts, [&](int64_t task, int) {
    const int64_t first = task / parts * chunk, end = std::min(p.m, first + chunk);
    const int64_t part = task % parts;
    for (int64_t i = part * panels / parts; i < (part + 1) * panels / parts; ++i) {
      for (int64_t row = first; row < end;) {
        row += some_rows(p, x, p.w.data + i * size, row, end - row, i * kPanel);
      }
    }
  });
}

}  // namespace ringtide::kernels

#else

namespace ringtide::kernels {

bool has_bfloat_products() { return false; }
void multiply_bfloat(const Product&, ThreadPool&) {}

}  // namespace ringtide::kernels

#endif
