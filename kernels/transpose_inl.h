// Rows of keys into columns of floats.
#include "kernels/simd_inl.h"
#include "kernels/visible.h"

#if defined(RINGTIDE_KERNELS_TRANSPOSE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_TRANSPOSE_INL_H
#undef RINGTIDE_KERNELS_TRANSPOSE_INL_H
#else
#define RINGTIDE_KERNELS_TRANSPOSE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// Keys in a strip of a tile: few enough that all that is done to them stays in the first cache. The
// widest vectors take all of a tile at once.
constexpr int kStrip = kLanes == 16 ? kTile : 16;

// A block of rows of numbers, `stride` apart, kBlockKeys by kBlockColumns, is written as columns of
// floats, kStrip apart.
#if HWY_TARGET == HWY_SCALAR
constexpr int kBlockColumns = 1;
template <class T>
constexpr int kBlockKeys = 1;
template <class T>
HWY_INLINE void transpose_block(const T* rows, int64_t, float* columns) {
  *columns = hn::GetLane(load(rows));
}
#else
constexpr int kBlockColumns = 8;
template <class T>
constexpr int kBlockKeys = sizeof(T) == 2 ? 8 : static_cast<int>(kLanes);

// Blocks of four floats, block b from p + 4 b stride.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const float* p, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return hn::LoadU(d, p);
  } else {
    const hn::Half<D> half;
    const int64_t keys = hn::MaxLanes(half);
    return hn::Combine(d, load_blocks(half, p + keys * stride, stride),
                       load_blocks(half, p, stride));
  }
}

HWY_INLINE void transpose4(const float* rows, int64_t stride, float* columns) {
  const Df d;
  const hn::Repartition<double, Df> pairs;
  const Vf a = load_blocks(d, rows, stride);
  const Vf b = load_blocks(d, rows + stride, stride);
  const Vf c = load_blocks(d, rows + 2 * stride, stride);
  const Vf e = load_blocks(d, rows + 3 * stride, stride);
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_low, ce_low)), d, columns);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_low, ce_low)), d, columns + kStrip);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_high, ce_high)), d, columns + 2 * kStrip);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_high, ce_high)), d, columns + 3 * kStrip);
}

HWY_INLINE void transpose_block(const float* rows, int64_t stride, float* columns) {
  transpose4(rows, stride, columns);
  transpose4(rows + 4, stride, columns + 4 * kStrip);
}

HWY_INLINE void store_halves(hn::Vec<hn::Full128<uint16_t> > halves, float* p) {
#if RINGTIDE_NATIVE_HALF && HWY_ARCH_X86
  const hn::Full256<float> d;
  hn::StoreU(hn::PromoteTo(d, hn::BitCast(hn::Full128<hwy::float16_t>(), halves)), d, p);
#else
  HWY_ALIGN uint16_t lanes[8];
  hn::Store(halves, hn::Full128<uint16_t>(), lanes);
  for (size_t i = 0; i < 8; i += kLanes) hn::StoreU(load(lanes + i), Df(), p + i);
#endif
}

// Halves change places before they are widened: eight to a vector.
HWY_INLINE void transpose_block(const uint16_t* rows, int64_t stride, float* columns) {
  const hn::Full128<uint16_t> d;
  const hn::Full128<uint32_t> twos;
  const hn::Full128<uint64_t> fours;
  const auto row = [&](int i) { return hn::LoadU(d, rows + i * stride); };
  // Columns 4 x to 4 x + 3 of four rows from i on: columns two by two, each of four rows.
  const auto part = [&](int i, bool upper, auto& low, auto& high) {
    const auto a = hn::BitCast(twos, upper ? hn::InterleaveUpper(d, row(i), row(i + 1))
                                           : hn::InterleaveLower(d, row(i), row(i + 1)));
    const auto b = hn::BitCast(twos, upper ? hn::InterleaveUpper(d, row(i + 2), row(i + 3))
                                           : hn::InterleaveLower(d, row(i + 2), row(i + 3)));
    low = hn::BitCast(fours, hn::InterleaveLower(twos, a, b));
    high = hn::BitCast(fours, hn::InterleaveUpper(twos, a, b));
  };
  HWY_UNROLL(2)
  for (int x = 0; x < 2; ++x) {
    hn::Vec<decltype(fours)> low[2], high[2];
    part(0, x, low[0], high[0]);
    part(4, x, low[1], high[1]);
    float* to = columns + 4 * x * kStrip;
    store_halves(hn::BitCast(d, hn::InterleaveLower(fours, low[0], low[1])), to);
    store_halves(hn::BitCast(d, hn::InterleaveUpper(fours, low[0], low[1])), to + kStrip);
    store_halves(hn::BitCast(d, hn::InterleaveLower(fours, high[0], high[1])), to + 2 * kStrip);
    store_halves(hn::BitCast(d, hn::InterleaveUpper(fours, high[0], high[1])), to + 3 * kStrip);
  }
}
#endif

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
