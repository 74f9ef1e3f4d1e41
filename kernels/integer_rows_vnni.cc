// Integer products of a few rows with AVX512-VNNI: reading the weights is what takes the time, so
// that codes go from the packed panel to the products without a stop in memory.
#include "kernels/integer_tile.h"

#if defined(__x86_64__)
#include "kernels/vnni_inl.h"

namespace ringtide::kernels {
namespace {

// How far ahead of the products weights are asked for: a fetch may take as long as they do for it.
constexpr int64_t kAhead = 4096;

// The bits of one plane at group t of four inputs, moved up by kUp; 16 outputs from 16 v on.
template <int kBits, int kUp>
RINGTIDE_VNNI_INLINE __m512i plane_bits(const std::byte* plane, int t, int v) {
  const __m512i word = _mm512_loadu_si512(plane + t % kBits * kPanel * 4 + v * 64);
  if constexpr (kBits == 8) return word;
  constexpr int kMask = static_cast<int>(((1u << kBits) - 1) * 0x01010101u << kUp);
  const int right = kBits * (t / kBits) - kUp;
  const __m512i moved = right >= 0 ? _mm512_srli_epi32(word, static_cast<unsigned>(right))
                                   : _mm512_slli_epi32(word, static_cast<unsigned>(-right));
  return _mm512_and_si512(moved, _mm512_set1_epi32(kMask));
}

template <TensorType kType>
RINGTIDE_VNNI_INLINE __m512i codes(const std::byte* planes, int t, int v) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kLow = low_bits(kCoding), kHigh = high_bits(kCoding);
  __m512i word = plane_bits<kLow, 0>(planes, t, v);
  if constexpr (kHigh > 0) {
    word = _mm512_or_si512(word, plane_bits<kHigh, kLow>(planes + kPanel * 4 * kLow, t, v));
  }
  if constexpr (kCoding.table) {
    alignas(16) static constexpr std::array<uint8_t, 16> kTable = level_bytes();
    const auto* table = reinterpret_cast<const __m128i*>(kTable.data());
    word = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(table)), word);
  }
  return word;
}

RINGTIDE_VNNI_INLINE __m512 halves(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

RINGTIDE_VNNI_INLINE __m512 bytes(const std::byte* p) {
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(packed));
}

// Rows [row, row + R) of t by a whole panel: as unpack() and the tile, operation by operation.
template <TensorType kType, int R, bool kWide>
RINGTIDE_VNNI __attribute__((noinline)) void panel_rows(const IntegerTile& t, int64_t row,
                                                        const std::byte* at, float* sums) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale, kGroups = kCoding.per_scale / 4;
  __m512 sum[R][2];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
  for (int64_t block = 0; block < t.k; block += kCoding.elements) {
    // d, and what minima are multiplied by: -m where they differ within the block, else m.
    __m512 factor_of[2], base_of[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      factor_of[v] = halves(at + v * 32);
      if constexpr (kCoding.minimum) {
        base_of[v] = halves(at + kPanel * 2 + v * 32);
        if constexpr (kCoding.scales) base_of[v] = _mm512_sub_ps(_mm512_setzero_ps(), base_of[v]);
      }
    }
    at += header_bytes(kCoding);
    for (int64_t input = block; input < block + kCoding.elements; input += 32) {
      const std::byte* planes = at + scale_bytes(kCoding);
      for (int64_t line = 0; line < part_bytes(kCoding); line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + line), _MM_HINT_T0);
      }
#pragma GCC unroll 2
      for (int s = 0; s < kScales; ++s) {
        const int64_t first = input + s * kCoding.per_scale;
        const int64_t x = t.byte_at(row, first);
        __m512i high[R][2], low[R][2];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          high[r][0] = high[r][1] = low[r][0] = low[r][1] = _mm512_setzero_si512();
        }
#pragma GCC unroll 8
        for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 2
          for (int v = 0; v < 2; ++v) {
            const __m512i w = codes<kType>(planes, s * kGroups + g, v);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
              add_four(high[r][v], w, t.x.high + x + g * 16 + r * 4);
              if constexpr (kWide) add_four(low[r][v], w, t.x.low + x + g * 16 + r * 4);
            }
          }
        }
        const int64_t factors = t.factor_at(row, first);
        const int64_t part =
            row_index(t.row + row, t.k / kCoding.per_scale, first / kCoding.per_scale);
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          __m512 scale = factor_of[v];
          if constexpr (kCoding.scales) {
            scale = _mm512_mul_ps(scale, bytes(at + s * kPanel + v * 16));
          }
          __m512 base = base_of[v];
          if constexpr (kCoding.minimum && kCoding.scales) {
            base = _mm512_mul_ps(base, bytes(at + (kScales + s) * kPanel + v * 16));
          }
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            __m512i q = high[r][v];
            if constexpr (kWide) q = _mm512_add_epi32(_mm512_slli_epi32(q, 8), low[r][v]);
            if constexpr (!kCoding.minimum) {
              q = _mm512_add_epi32(q, _mm512_set1_epi32(t.x.bias[part + r]));
            }
            const __m512 factor = _mm512_set1_ps(t.x.factor[factors + r]);
            sum[r][v] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(q), _mm512_mul_ps(scale, factor), sum[r][v]);
            if constexpr (kCoding.minimum) {
              sum[r][v] = _mm512_fmadd_ps(base, _mm512_set1_ps(t.x.sum[part + r]), sum[r][v]);
            }
          }
        }
      }
      at += part_bytes(kCoding);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    _mm512_storeu_ps(sums + (row + r) * kPanel, sum[r][0]);
    _mm512_storeu_ps(sums + (row + r) * kPanel + 16, sum[r][1]);
  }
}

template <TensorType kType, int R>
RINGTIDE_VNNI int some_rows(const IntegerTile& t, int64_t row, const std::byte* panel,
                            float* sums) {
  t.x.low ? panel_rows<kType, R, true>(t, row, panel, sums)
          : panel_rows<kType, R, false>(t, row, panel, sums);
  return R;
}

template <TensorType kType>
RINGTIDE_VNNI void all_rows(const IntegerTile& t, int64_t rows, const std::byte* panel,
                            float* sums) {
  for (int64_t row = 0; row < rows;) {
    const int64_t left = rows - row;
    row += left >= 4   ? some_rows<kType, 4>(t, row, panel, sums)
           : left >= 2 ? some_rows<kType, 2>(t, row, panel, sums)
                       : some_rows<kType, 1>(t, row, panel, sums);
  }
}

}  // namespace

void vnni_panel(TensorType type, const IntegerTile& t, int64_t rows, const std::byte* panel) {
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return;
    case TensorType::Q8_0:
      return all_rows<TensorType::Q8_0>(t, rows, panel, t.sums);
    case TensorType::Q4_0:
      return all_rows<TensorType::Q4_0>(t, rows, panel, t.sums);
    case TensorType::Q4_1:
      return all_rows<TensorType::Q4_1>(t, rows, panel, t.sums);
    case TensorType::Q5_0:
      return all_rows<TensorType::Q5_0>(t, rows, panel, t.sums);
    case TensorType::Q5_1:
      return all_rows<TensorType::Q5_1>(t, rows, panel, t.sums);
    case TensorType::Q2_K:
      return all_rows<TensorType::Q2_K>(t, rows, panel, t.sums);
    case TensorType::Q3_K:
      return all_rows<TensorType::Q3_K>(t, rows, panel, t.sums);
    case TensorType::Q4_K:
      return all_rows<TensorType::Q4_K>(t, rows, panel, t.sums);
    case TensorType::Q5_K:
      return all_rows<TensorType::Q5_K>(t, rows, panel, t.sums);
    case TensorType::Q6_K:
      return all_rows<TensorType::Q6_K>(t, rows, panel, t.sums);
    case TensorType::IQ4_NL:
      return all_rows<TensorType::IQ4_NL>(t, rows, panel, t.sums);
    case TensorType::IQ4_XS:
      return all_rows<TensorType::IQ4_XS>(t, rows, panel, t.sums);
  }
}

}  // namespace ringtide::kernels

#else

namespace ringtide::kernels {

void vnni_panel(TensorType, const IntegerTile&, int64_t, const std::byte*) {}

}  // namespace ringtide::kernels

#endif
