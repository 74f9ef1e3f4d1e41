// Integer products of a few rows for every instruction set: reading the weights is what takes the
// time, so that codes go from the packed panel to the products without a stop in memory.
#include <hwy/cache_control.h>

#include "kernels/integer_tile_inl.h"
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

// Rows [row, row + R), of one four, by V vectors of a whole panel's outputs from `column` on: as
// unpack() and the tile, operation by operation. Adds to t.sums.
template <TensorType kType, int R, int V>
HWY_NOINLINE void panel_rows(const IntegerTile& t, int64_t row, int64_t column,
                             const std::byte* at) {
  constexpr Coding kCoding = coding(kType);
  constexpr int kScales = 32 / kCoding.per_scale, kGroups = kCoding.per_scale / 4;
  const Df d;
  const Vu bytes = hn::Set(Du(), 0x00ff00ffu);
  const int32_t* x = t.x.pairs + pair_index(t.row + row, t.k, 0);
  const float* factor = t.x.factor + row_index(t.row + row, t.k / 32, 0);
  const int64_t part = row_index(t.row + row, t.k / kCoding.per_scale, 0);
  const float* sum_of_x = kCoding.minimum ? t.x.sum + part : nullptr;
  const int32_t* bias = kCoding.minimum ? nullptr : t.x.bias + part;
  float* sums = t.sums + row * kPanel + column;
  for (int64_t block = 0; block < t.k; block += kCoding.elements) {
    const auto* header = reinterpret_cast<const uint16_t*>(at) + column;
    at += header_bytes(kCoding);
    HWY_UNROLL(1)
    for (int i = 0; i < kCoding.elements; i += 32, at += part_bytes(kCoding), factor += 4) {
      const std::byte* planes = at + scale_bytes(kCoding);
      for (int64_t line = 0; line < part_bytes(kCoding); line += 64) {
        hwy::Prefetch(reinterpret_cast<const char*>(at + kAhead + line));
      }
      HWY_UNROLL(2)
      for (int s = 0; s < kScales; ++s, x += 8 * kGroups) {
        Vi acc[R][V];
        HWY_UNROLL(4)
        for (int r = 0; r < R; ++r) {
          HWY_UNROLL(4)
          for (int v = 0; v < V; ++v) acc[r][v] = hn::Zero(Di());
        }
        HWY_UNROLL(8)
        for (int g = 0; g < kGroups; ++g) {
          Vu w[V];
          HWY_UNROLL(4)
          for (int v = 0; v < V; ++v) {
            w[v] = group_codes<kType>(planes, s * kGroups + g, column + v * kLanes);
          }
          HWY_UNROLL(2)
          for (int pair = 0; pair < 2; ++pair) {
            HWY_UNROLL(4)
            for (int r = 0; r < R; ++r) {
              const Vi two = hn::Set(Di(), x[g * 8 + pair * 4 + r]);
              HWY_UNROLL(4)
              for (int v = 0; v < V; ++v) {
                acc[r][v] = add_pairs(acc[r][v], hn::And(w[v], bytes), two);
              }
            }
            HWY_UNROLL(4)
            for (int v = 0; v < V; ++v) w[v] = hn::ShiftRight<8>(w[v]);
          }
        }
        HWY_UNROLL(4)
        for (int v = 0; v < V; ++v) {
          Vf scale = load_half(header + v * kLanes);
          Vf base = kCoding.minimum ? load_half(header + kPanel + v * kLanes) : hn::Zero(d);
          if constexpr (kCoding.scales) {
            const std::byte* scales = at + s * kPanel + column + v * kLanes;
            scale = hn::Mul(scale, load_int8(scales));
            if constexpr (kCoding.minimum) {
              base = hn::Mul(hn::Neg(base), load_int8(scales + kScales * kPanel));
            }
          }
          HWY_UNROLL(4)
          for (int r = 0; r < R; ++r) {
            float* to = sums + r * kPanel + v * kLanes;
            if constexpr (!kCoding.minimum) acc[r][v] = hn::Add(acc[r][v], hn::Set(Di(), bias[r]));
            Vf sum = hn::MulAdd(hn::ConvertTo(d, acc[r][v]), hn::Mul(scale, hn::Set(d, factor[r])),
                                load(to));
            if constexpr (kCoding.minimum) {
              sum = hn::MulAdd(base, hn::Set(d, sum_of_x[r]), sum);
            }
            hn::StoreU(sum, d, to);
          }
        }
        if constexpr (kCoding.minimum) {
          sum_of_x += 4;
        } else {
          bias += 4;
        }
      }
    }
  }
}

template <TensorType kType, int R>
HWY_INLINE void panel_columns(const IntegerTile& t, int64_t row, const std::byte* panel) {
  // Few rows have few sums: more of them at once keep the multipliers busy.
  constexpr int V = R <= 2 && 4 * kLanes <= kPanel ? 4 : 2;
  for (int64_t column = 0; column < kPanel; column += V * kLanes) {
    panel_rows<kType, R, V>(t, row, column, panel);
  }
}

// As integer_panel() in integer_tile.h.
template <TensorType kType>
HWY_INLINE void panel_of(const IntegerTile& t, int64_t rows, const std::byte* panel) {
  if (rows == 4) return panel_columns<kType, 4>(t, 0, panel);
  if (rows >= 2) panel_columns<kType, 2>(t, 0, panel);
  if (rows != 2) panel_columns<kType, 1>(t, rows - 1, panel);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
