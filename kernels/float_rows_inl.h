// Products in float32 of many rows by a run of inputs of one panel. The run's weights lie in the
// first cache and are used by all rows, whose sums wait in memory until the next run.
#include "kernels/panel.h"
#include "kernels/tile_inl.h"

#if defined(RINGTIDE_KERNELS_FLOAT_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_FLOAT_ROWS_INL_H
#undef RINGTIDE_KERNELS_FLOAT_ROWS_INL_H
#else
#define RINGTIDE_KERNELS_FLOAT_ROWS_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

constexpr int64_t kFloatOutputs = std::min<int64_t>(2 * kLanes, kPanel);

struct FloatRun {
  const float* x;  // (rows, stride), from the run's first input on
  int64_t stride, rows;
  const float* weights;  // (inputs, kPanel)
  int64_t inputs;
  float (*sums)[kPanel];  // (rows)
  // What the next run reads, fetched into the first cache meanwhile; of each input so many bytes.
  const std::byte* ahead = nullptr;
  int64_t ahead_bytes = 0;
};

// Rows from `row` on by the outputs of one tile. The panel's tiles of the first rows fetch ahead,
// each its share of an input's bytes with that input.
template <bool kAhead>
struct FloatTile {
  const FloatRun& run;
  int64_t row, column;
  template <int R>
  HWY_NOINLINE void operator()() const {
    constexpr int64_t kLines = (kFloatOutputs * sizeof(float) + 63) / 64;
    Tile<R, kFloatOutputs / kLanes, Rows> tile({run.x + row * run.stride, run.stride});
    float* sums = run.sums[row] + column;
    tile.load_sums(sums, kPanel);
    const std::byte* ahead = run.ahead + column * run.inputs * run.ahead_bytes / kPanel;
    const int64_t step = run.ahead_bytes * kFloatOutputs / kPanel;
    for (int64_t k = 0; k < run.inputs; ++k, ahead += step) {
      for (int64_t line = 0; kAhead && line < kLines; ++line) __builtin_prefetch(ahead + line * 64);
      tile.add(run.weights + k * kPanel + column, k);
    }
    tile.store_sums(sums, kPanel);
  }
};

HWY_INLINE void add_float_run(const FloatRun& run) {
  for (int64_t row = 0; row < run.rows;) {
    int height = 0;
    for (int64_t column = 0; column < kPanel; column += kFloatOutputs) {
      height = row == 0 && run.ahead
                   ? with_rows(run.rows, FloatTile<true>{run, row, column})
                   : with_rows(run.rows - row, FloatTile<false>{run, row, column});
    }
    row += height;
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
