#include "kernels/integer_rows.h"

#include <limits>

#ifndef RINGTIDE_KERNELS_INTEGER_ROWS_ONCE
#define RINGTIDE_KERNELS_INTEGER_ROWS_ONCE
namespace ringtide::kernels {

// One row, and where its parts go.
struct RowOut {
  int8_t* high;
  int8_t* low;  // null: 8-bit
  float* factor;
  int32_t* bias;
  float* sum;
  int32_t offset;
  int parts;  // of 32 inputs: 1 or 2
};

}  // namespace ringtide::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer_rows.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/simd_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

using Vi = hn::Vec<Di>;

constexpr int kGroup = static_cast<int>(kFactorInputs);

HWY_INLINE int32_t sum_of(Vi v) { return hn::GetLane(hn::SumOfLanes(Di(), v)); }

// 32 inputs; returns their factor, and the sums of their halves.
HWY_INLINE float make_group(const float* x, int8_t* high, int8_t* low, int32_t (&sums)[2]) {
  const Df d;
  const hn::Rebind<int8_t, Df> d8;
  Vf greatest = hn::Zero(d), poison = hn::Zero(d);
  for (int i = 0; i < kGroup; i += kLanes) {
    const Vf v = load(x + i);
    greatest = hn::Max(greatest, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  const float most = low ? 127.f * 256 : 127.f;
  const float top = max_lanes(greatest);
  const bool finite = sum_lanes(poison) == 0;
  // A top so small that its inverse overflows counts as 0.
  const bool any = finite && top > 1e-30f;
  const Vf inverse = hn::Set(d, any ? most / top : 0.f);
  Vi half[2] = {hn::Zero(Di()), hn::Zero(Di())};
  for (int i = 0; i < kGroup; i += kLanes) {
    const Vi q = hn::NearestInt(hn::Mul(finite ? load(x + i) : hn::Zero(d), inverse));
    half[i / (kGroup / 2)] = hn::Add(half[i / (kGroup / 2)], q);
    if (low) {
      const Vi rest = hn::ShiftRight<24>(hn::ShiftLeft<24>(q));
      hn::StoreU(hn::DemoteTo(d8, rest), d8, low + i);
      hn::StoreU(hn::DemoteTo(d8, hn::ShiftRight<8>(hn::Sub(q, rest))), d8, high + i);
    } else {
      hn::StoreU(hn::DemoteTo(d8, q), d8, high + i);
    }
  }
  sums[0] = sum_of(half[0]);
  sums[1] = sum_of(half[1]);
  return finite ? (any ? top / most : 0.f) : std::numeric_limits<float>::quiet_NaN();
}

void make_row(const float* x, int64_t k, const RowOut& to) {
  for (int64_t g = 0; g < k / kGroup; ++g) {
    int32_t sums[2];
    const float factor = make_group(x + g * kGroup, to.high + g * kGroup,
                                    to.low ? to.low + g * kGroup : nullptr, sums);
    to.factor[g] = factor;
    if (to.parts == 1) sums[0] += sums[1];
    for (int p = 0; p < to.parts; ++p) {
      if (to.bias) to.bias[g * to.parts + p] = -to.offset * sums[p];
      if (to.sum) to.sum[g * to.parts + p] = factor * static_cast<float>(sums[p]);
    }
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {
namespace {

HWY_EXPORT(make_row);

constexpr int64_t kSerial = 16384;  // elements that are not worth a second thread

struct Sizes {
  int64_t bytes, factors, parts;
  Sizes(int64_t m, int64_t k, const Coding& weights)
      : bytes((m * k + 63) / 64 * 64), factors(m * (k / 32)), parts(m * (k / weights.per_scale)) {}
};

}  // namespace

size_t integer_rows_bytes(int64_t m, int64_t k, const Coding& weights, bool wide) {
  const Sizes s(m, k, weights);
  return ((wide ? 2 : 1) * s.bytes + 4 * (s.factors + s.parts) + 63) / 64 * 64;
}

IntegerRows make_rows(const float* x, int64_t m, int64_t k, const Coding& weights, bool wide,
                      std::byte* memory, ThreadPool& threads) {
  const Sizes s(m, k, weights);
  const int parts = 32 / weights.per_scale;
  auto* high = reinterpret_cast<int8_t*>(memory);
  int8_t* low = wide ? high + s.bytes : nullptr;
  auto* factor = reinterpret_cast<float*>(memory + (wide ? 2 : 1) * s.bytes);
  float* sum = weights.minimum ? factor + s.factors : nullptr;
  int32_t* bias = weights.minimum ? nullptr : reinterpret_cast<int32_t*>(factor + s.factors);
  const auto row = [&](int64_t r, int) {
    const int64_t groups = k / 32, at = r * groups * parts;
    HWY_DYNAMIC_DISPATCH(make_row)
    (x + r * k, k,
     {high + r * k, wide ? low + r * k : nullptr, factor + r * groups, bias ? bias + at : nullptr,
      sum ? sum + at : nullptr, weights.table ? kLevelOffset : weights.offset, parts});
  };
  if (m * k <= kSerial) {
    for (int64_t r = 0; r < m; ++r) row(r, 0);
  } else {
    threads.parallel_for(m, row);
  }
  return {high, low, factor, bias, sum};
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
