// Integer products of a few rows for every instruction set: reading the weights is what takes the
// time, so that codes go from the packed panels to the products without a stop in memory, and
// several panels are read side by side.
#include <hwy/cache_control.h>

#include <algorithm>
#include <type_traits>

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

// How far ahead of the products the weights of each panel are asked for: while others use the memory
// as well, what the processor fetches by itself comes late.
constexpr int64_t kAhead = 1024;

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

// What four rows bring to a part beside their inputs.
template <bool kMinimum>
struct RowFactors {
  const float* factor;
  // The sum of x, to be multiplied by the minima; or else the bias.
  std::conditional_t<kMinimum, const float*, const int32_t*> rest;

  HWY_INLINE RowFactors from(int part) const { return {factor, rest + 4 * part}; }
};

// Part s of the 32 inputs at `at`, of the block at `header`, by V vectors of outputs from `column`
// on: as unpack() and the tile, operation by operation. Adds to sums.
template <TensorType kType, class Inputs, int R, int V>
HWY_INLINE void panel_part(const Inputs& x, const RowFactors<coding(kType).minimum>& rows,
                           const std::byte* header, const std::byte* at, int s, int64_t column,
                           float* sums) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale, kGroups = kCoding.per_scale / 4;
  const Df d;
  const auto* halves = reinterpret_cast<const uint16_t*>(header);
  Vi acc[R][V];
  x.template multiply<kCoding.bits, kGroups>(
      PanelCodes<kType>{at + scale_bytes(kCoding), s * kGroups, column}, acc);
  HWY_UNROLL(4)
  for (int v = 0; v < V; ++v) {
    const int64_t output = column + v * kLanes;
    Vf scale = load_half(halves + output);
    Vf base = kCoding.minimum ? load_half(halves + kPanel + output) : hn::Zero(d);
    if constexpr (kCoding.scales) {
      const std::byte* scales = at + s * kPanel + output;
      scale = hn::Mul(scale, load_int8(scales));
      if constexpr (kCoding.minimum) {
        base = hn::Mul(hn::Neg(base), load_int8(scales + kScales * kPanel));
      }
    }
    HWY_UNROLL(4)
    for (int r = 0; r < R; ++r) {
      float* to = sums + r * kPanel + output;
      if constexpr (!kCoding.minimum) {
        acc[r][v] = hn::Add(acc[r][v], hn::Set(Di(), rows.rest[r]));
      }
      Vf sum = hn::MulAdd(hn::ConvertTo(d, acc[r][v]), hn::Mul(scale, hn::Set(d, rows.factor[r])),
                          load(to));
      if constexpr (kCoding.minimum) {
        sum = hn::MulAdd(base, hn::Set(d, rows.rest[r]), sum);
      }
      hn::StoreU(sum, d, to);
    }
  }
}

// Rows [row, row + R) of `height`, of one four, by whole panels. Adds to t.sums.
template <TensorType kType, class Inputs, int R, int V>
HWY_NOINLINE void panel_rows(const IntegerTile& t, int64_t row, int64_t height,
                             const Panels& panels) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale, kGroups = kCoding.per_scale / 4;
  Inputs x(t.x, t.row + row, t.k, 0);
  const int64_t part = row_index(t.row + row, t.k / kCoding.per_scale, 0);
  RowFactors<kCoding.minimum> rows{t.x.factor + row_index(t.row + row, t.k / 32, 0), {}};
  if constexpr (kCoding.minimum) {
    rows.rest = t.x.sum + part;
  } else {
    rows.rest = t.x.bias + part;
  }
  const std::byte* header = panels.first;
  for (int64_t input = 0; input < t.k; input += kCoding.elements) {
    const std::byte* at = header + header_bytes(kCoding);
    HWY_UNROLL(1)
    for (int i = 0; i < kCoding.elements; i += 32, at += part_bytes(kCoding)) {
      HWY_UNROLL(1)
      for (int p = 0; p < panels.count; ++p) {
        const int64_t panel = p * panels.bytes;
        float* sums = t.sums + (p * height + row) * kPanel;
        for (int64_t line = 0; line < part_bytes(kCoding); line += 64) {
          hwy::Prefetch(reinterpret_cast<const char*>(at + panel + kAhead + line));
        }
        HWY_UNROLL(2)
        for (int s = 0; s < kScales; ++s) {
          HWY_UNROLL(1)
          for (int64_t column = 0; column < kPanel; column += V * kLanes) {
            panel_part<kType, Inputs, R, V>(x.from(s * kGroups), rows.from(s), header + panel,
                                            at + panel, s, column, sums);
          }
        }
      }
      x = x.from(8);
      rows = rows.from(kScales);
      rows.factor += 4;
    }
    header = at;
  }
}

// At most three rows. Few rows have few sums: more of them at once keep the multipliers busy.
template <TensorType kType, class Inputs>
HWY_INLINE void panel_by(const IntegerTile& t, int64_t rows, const Panels& panels) {
  constexpr int kFour = std::min<int>(4, kPanel / kLanes);
  if (rows >= 2) panel_rows<kType, Inputs, 2, 2>(t, 0, rows, panels);
  if (rows != 2) panel_rows<kType, Inputs, 1, kFour>(t, rows - 1, rows, panels);
}

// As integer_panels() in integer_tile.h.
template <TensorType kType>
HWY_INLINE void panels_of(const IntegerTile& t, int64_t rows, const Panels& panels) {
#if RINGTIDE_BYTE_PAIRS
  if constexpr (takes_byte_pairs(coding(kType))) {
    if (t.x.low) return panel_by<kType, ByteRows<true>>(t, rows, panels);
    if (t.x.high) return panel_by<kType, ByteRows<false>>(t, rows, panels);
    static_assert(kByteRows == 3);
    return panel_rows<kType, PairRows, 4, 2>(t, 0, rows, panels);
  }
#endif
  if (rows == 4) return panel_rows<kType, PairRows, 4, 2>(t, 0, rows, panels);
  panel_by<kType, PairRows>(t, rows, panels);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
