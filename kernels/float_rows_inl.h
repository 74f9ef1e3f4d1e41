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

// Tiles of so many heights at most share the fetching: memory is slower than what they ask for.
constexpr int64_t kFetching = 8;

// Rows from `row` on by the outputs of one tile. Number `share` of `shares` of those of its column
// that fetch ahead; of the column's bytes it fetches its share, some with every input.
template <bool kAhead>
struct FloatTile {
  const FloatRun& run;
  int64_t row, column;
  int64_t share = 0, shares = 1;
  template <int R>
  HWY_NOINLINE void operator()() const {
    constexpr int64_t kLines = (kFloatOutputs * sizeof(float) + 63) / 64;
    Tile<R, kFloatOutputs / kLanes, Rows> tile({run.x + row * run.stride, run.stride});
    float* sums = run.sums[row] + column;
    tile.load_sums(sums, kPanel);
    const int64_t step = run.ahead_bytes * kFloatOutputs / kPanel / shares;
    const std::byte* ahead =
        run.ahead + column * run.inputs * run.ahead_bytes / kPanel + share * run.inputs * step;
    for (int64_t k = 0; k < run.inputs; ++k, ahead += step) {
      for (int64_t line = 0; kAhead && line < kLines; ++line) __builtin_prefetch(ahead + line * 64);
      tile.add(run.weights + k * kPanel + column, k);
    }
    tile.store_sums(sums, kPanel);
  }
};

HWY_INLINE void add_float_run(const FloatRun& run) {
  int64_t shares = 1;
  while (shares < kFetching && 2 * shares * kTileRows <= run.rows + kTileRows - 1) shares *= 2;
  if (!run.ahead) shares = 0;
  int64_t share = 0;
  for (int64_t row = 0; row < run.rows; ++share) {
    int height = 0;
    for (int64_t column = 0; column < kPanel; column += kFloatOutputs) {
      height = share < shares
                   ? with_rows(run.rows - row, FloatTile<true>{run, row, column, share, shares})
                   : with_rows(run.rows - row, FloatTile<false>{run, row, column});
    }
    row += height;
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
