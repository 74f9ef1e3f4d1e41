// Integer products of a few rows for every instruction set: reading the weights is what takes the
// time, so that codes go from the packed panel to the products without a stop in memory.
#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/integer_products_inl.h"
#include "kernels/integer_tile.h"
#include "kernels/unpack_inl.h"

#if defined(RINGTIDE_KERNELS_INTEGER_PANEL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_INTEGER_PANEL_INL_H
#undef RINGTIDE_KERNELS_INTEGER_PANEL_INL_H
#else
#define RINGTIDE_KERNELS_INTEGER_PANEL_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// How far ahead of the products weights are asked for: a fetch may take as long as they do for it.
constexpr int64_t kAhead = 4096;

// What the scales and minima of a block are multiplied by, widened once for all of its parts.
template <TensorType kType>
struct BlockFactors {
  alignas(64) float scale[kPanel], base[kPanel];

  HWY_INLINE explicit BlockFactors(const std::byte* header) {
    const auto* halves = reinterpret_cast<const uint16_t*>(header);
    for (int64_t i = 0; i < kPanel; i += kLanes) {
      hn::StoreU(load_half(halves + i), Df(), scale + i);
      if constexpr (coding(kType).minimum) {
        const Vf m = load_half(halves + kPanel + i);
        hn::StoreU(coding(kType).scales ? hn::Neg(m) : m, Df(), base + i);
      }
    }
  }
};

// Codes of a part that starts at group `first` of these planes' eight.
template <TensorType kType>
struct PanelCodes {
  const std::byte* planes;
  int first;
  int64_t column;
  HWY_INLINE Vu operator()(int g, int v) const {
    return group_codes<kType>(planes, first + g, column + v * kLanes);
  }
};

// What four rows add to a part's products.
struct RowFactors {
  const float* factor;
  const float* sum_of_x;
  const int32_t* bias;
};

// Part s of the 32 inputs at `at`, by V vectors of outputs from `column` on: as unpack() and the
// tile, operation by operation. Adds to sums.
template <TensorType kType, class Inputs, int R, int V>
HWY_INLINE void panel_part(const Inputs& x, const RowFactors& rows,
                           const BlockFactors<kType>& block, const std::byte* at, int s,
                           int64_t column, float* sums) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale, kGroups = kCoding.per_scale / 4;
  const Df d;
  Vi acc[R][V];
  x.template multiply<kCoding.bits, kGroups>(
      PanelCodes<kType>{at + scale_bytes(kCoding), s * kGroups, column}, acc);
  HWY_UNROLL(4)
  for (int v = 0; v < V; ++v) {
    const int64_t output = column + v * kLanes;
    Vf scale = load(block.scale + output);
    Vf base = kCoding.minimum ? load(block.base + output) : hn::Zero(d);
    if constexpr (kCoding.scales) {
      const std::byte* scales = at + s * kPanel + output;
      scale = hn::Mul(scale, load_int8(scales));
      if constexpr (kCoding.minimum) {
        base = hn::Mul(base, load_int8(scales + kScales * kPanel));
      }
    }
    HWY_UNROLL(4)
    for (int r = 0; r < R; ++r) {
      float* to = sums + r * kPanel + output;
      if constexpr (!kCoding.minimum) {
        acc[r][v] = hn::Add(acc[r][v], hn::Set(Di(), rows.bias[r]));
      }
      Vf sum = hn::MulAdd(hn::ConvertTo(d, acc[r][v]), hn::Mul(scale, hn::Set(d, rows.factor[r])),
                          load(to));
      if constexpr (kCoding.minimum) {
        sum = hn::MulAdd(base, hn::Set(d, rows.sum_of_x[r]), sum);
      }
      hn::StoreU(sum, d, to);
    }
  }
}

// Rows [row, row + R), of one four, by a whole panel. Adds to t.sums.
template <TensorType kType, class Inputs, int R, int V>
HWY_NOINLINE void panel_rows(const IntegerTile& t, int64_t row, const std::byte* at) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale, kGroups = kCoding.per_scale / 4;
  Inputs x(t.x, t.row + row, t.k, 0);
  const int64_t part = row_index(t.row + row, t.k / kCoding.per_scale, 0);
  RowFactors rows{t.x.factor + row_index(t.row + row, t.k / 32, 0),
                  kCoding.minimum ? t.x.sum + part : nullptr,
                  kCoding.minimum ? nullptr : t.x.bias + part};
  float* sums = t.sums + row * kPanel;
  for (int64_t input = 0; input < t.k; input += kCoding.elements) {
    const BlockFactors<kType> block(at);
    at += header_bytes(kCoding);
    HWY_UNROLL(1)
    for (int i = 0; i < kCoding.elements; i += 32, at += part_bytes(kCoding)) {
      for (int64_t line = 0; line < part_bytes(kCoding); line += 64) {
        hwy::Prefetch(reinterpret_cast<const char*>(at + kAhead + line));
      }
      HWY_UNROLL(2)
      for (int s = 0; s < kScales; ++s) {
        HWY_UNROLL(1)
        for (int64_t column = 0; column < kPanel; column += V * kLanes) {
          panel_part<kType, Inputs, R, V>(x, rows, block, at, s, column, sums);
        }
        x.advance(kGroups);
        if constexpr (kCoding.minimum) {
          rows.sum_of_x += 4;
        } else {
          rows.bias += 4;
        }
      }
      rows.factor += 4;
    }
  }
}

// At most three rows. Few rows have few sums: more of them at once keep the multipliers busy.
template <TensorType kType, class Inputs>
HWY_INLINE void panel_by(const IntegerTile& t, int64_t rows, const std::byte* panel) {
  constexpr int kFour = std::min<int>(4, kPanel / kLanes);
  if (rows >= 2) panel_rows<kType, Inputs, 2, 2>(t, 0, panel);
  if (rows != 2) panel_rows<kType, Inputs, 1, kFour>(t, rows - 1, panel);
}

// As integer_panel() in integer_tile.h.
template <TensorType kType>
HWY_INLINE void panel_of(const IntegerTile& t, int64_t rows, const std::byte* panel) {
#if RINGTIDE_BYTE_PAIRS
  if constexpr (takes_byte_pairs(coding(kType))) {
    if (t.x.low) return panel_by<kType, ByteRows<true>>(t, rows, panel);
    if (t.x.high) return panel_by<kType, ByteRows<false>>(t, rows, panel);
    static_assert(kByteRows == 3);
    return panel_rows<kType, PairRows, 4, 2>(t, 0, panel);
  }
#endif
  if (rows == 4) return panel_rows<kType, PairRows, 4, 2>(t, 0, panel);
  panel_by<kType, PairRows>(t, rows, panel);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
