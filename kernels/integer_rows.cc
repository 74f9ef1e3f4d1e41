#include "kernels/integer_rows.h"

#include <cstring>
#include <limits>

#ifndef RINGTIDE_KERNELS_INTEGER_ROWS_ONCE
#define RINGTIDE_KERNELS_INTEGER_ROWS_ONCE
namespace ringtide::kernels {

// Where one row goes: its first numbers, each 4 after the one before.
struct RowOut {
  IntegerForm form;
  int8_t* high;    // null: pairs
  int8_t* low;     // null: 8-bit, or pairs
  int32_t* pairs;  // null: bytes
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

// n bytes, four by four, 16 from one four to the next.
HWY_INLINE void scatter(const int8_t* from, int n, int8_t* to) {
  for (int i = 0; i < n; i += 4) std::memcpy(to + 4 * i, from + i, 4);
}

// Numbers of 16 bits, of each four the first with the third and the second with the fourth.
HWY_INLINE void scatter_pairs(const int16_t* from, int n, int32_t* to) {
  for (int i = 0; i < n; i += 4, to += 8) {
    for (int pair = 0; pair < 2; ++pair) {
      const int16_t both[2] = {from[i + pair], from[i + 2 + pair]};
      std::memcpy(to + 4 * pair, both, 4);
    }
  }
}

// Group g of a row's 32 inputs; returns their factor, and the sums of their halves.
HWY_INLINE float make_group(const float* x, int64_t g, const RowOut& to, int32_t (&sums)[2]) {
  const Df d;
  const hn::Rebind<int8_t, Df> d8;
  const hn::Rebind<int16_t, Df> d16;
  Vf greatest = hn::Zero(d), poison = hn::Zero(d);
  for (int i = 0; i < kGroup; i += kLanes) {
    const Vf v = load(x + i);
    greatest = hn::Max(greatest, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  const float most = to.form.wide ? 127.f * 256 : 127.f;
  const float top = max_lanes(greatest);
  const bool finite = sum_lanes(poison) == 0;
  // A top so small that its inverse overflows counts as 0.
  const bool any = finite && top > 1e-30f;
  const Vf inverse = hn::Set(d, any ? most / top : 0.f);
  HWY_ALIGN int8_t bytes[kGroup], rests[kGroup];
  HWY_ALIGN int16_t whole[kGroup];
  Vi half[2] = {hn::Zero(Di()), hn::Zero(Di())};
  for (int i = 0; i < kGroup; i += kLanes) {
    const Vi q = hn::NearestInt(hn::Mul(finite ? load(x + i) : hn::Zero(d), inverse));
    half[i / (kGroup / 2)] = hn::Add(half[i / (kGroup / 2)], q);
    if (to.pairs) {
      hn::StoreU(hn::DemoteTo(d16, q), d16, whole + i);
    } else if (to.low) {
      const Vi rest = hn::ShiftRight<24>(hn::ShiftLeft<24>(q));
      hn::StoreU(hn::DemoteTo(d8, rest), d8, rests + i);
      hn::StoreU(hn::DemoteTo(d8, hn::ShiftRight<8>(hn::Sub(q, rest))), d8, bytes + i);
    } else {
      hn::StoreU(hn::DemoteTo(d8, q), d8, bytes + i);
    }
  }
  const int64_t at = g * kGroup;
  if (to.pairs) scatter_pairs(whole, kGroup, to.pairs + 2 * at);
  if (to.high) scatter(bytes, kGroup, to.high + 4 * at);
  if (to.low) scatter(rests, kGroup, to.low + 4 * at);
  sums[0] = sum_of(half[0]);
  sums[1] = sum_of(half[1]);
  return finite ? (any ? top / most : 0.f) : std::numeric_limits<float>::quiet_NaN();
}

void make_row(const float* x, int64_t k, const RowOut& to) {
  for (int64_t g = 0; g < k / kGroup; ++g) {
    int32_t sums[2];
    const float factor = make_group(x + g * kGroup, g, to, sums);
    to.factor[4 * g] = factor;
    if (to.parts == 1) sums[0] += sums[1];
    for (int p = 0; p < to.parts; ++p) {
      if (to.bias) to.bias[4 * (g * to.parts + p)] = -to.offset * sums[p];
      if (to.sum) to.sum[4 * (g * to.parts + p)] = factor * static_cast<float>(sums[p]);
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
  int64_t numbers, factors, parts;
  Sizes(int64_t m, int64_t k, const Coding& weights) {
    const int64_t rows = (m + 3) / 4 * 4;
    numbers = rows * k;  // whole cache lines: k is whole groups of 32
    factors = rows * (k / 32);
    parts = rows * (k / weights.per_scale);
  }
};

int64_t number_bytes(IntegerForm form) { return form.wide || !form.bytes ? 2 : 1; }

}  // namespace

size_t integer_rows_bytes(int64_t m, int64_t k, const Coding& weights, IntegerForm form) {
  const Sizes s(m, k, weights);
  return (number_bytes(form) * s.numbers + 4 * (s.factors + s.parts) + 63) / 64 * 64;
}

IntegerRows make_rows(const float* x, int64_t m, int64_t k, const Coding& weights, IntegerForm form,
                      std::byte* memory, ThreadPool& threads) {
  const Sizes s(m, k, weights);
  const int parts = 32 / weights.per_scale;
  auto* high = form.bytes ? reinterpret_cast<int8_t*>(memory) : nullptr;
  int8_t* low = form.bytes && form.wide ? high + s.numbers : nullptr;
  auto* pairs = form.bytes ? nullptr : reinterpret_cast<int32_t*>(memory);
  auto* factor = reinterpret_cast<float*>(memory + number_bytes(form) * s.numbers);
  float* sum = weights.minimum ? factor + s.factors : nullptr;
  int32_t* bias = weights.minimum ? nullptr : reinterpret_cast<int32_t*>(factor + s.factors);
  const auto row = [&](int64_t r, int) {
    const int64_t byte = 4 * row_index(r, k / 4, 0);
    const int64_t part = row_index(r, k / weights.per_scale, 0);
    HWY_DYNAMIC_DISPATCH(make_row)
    (x + r * k, k,
     {form, high ? high + byte : nullptr, low ? low + byte : nullptr,
      pairs ? pairs + pair_index(r, k, 0) : nullptr, factor + row_index(r, k / 32, 0),
      bias ? bias + part : nullptr, sum ? sum + part : nullptr,
      weights.table ? kLevelOffset : weights.offset, parts});
  };
  if (m * k <= kSerial) {
    for (int64_t r = 0; r < m; ++r) row(r, 0);
  } else {
    threads.parallel_for(m, row);
  }
  return {high, low, pairs, factor, bias, sum};
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
