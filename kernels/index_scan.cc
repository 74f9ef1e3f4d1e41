#include "kernels/index_scan.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/index_scan.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
//
#include "kernels/simd_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

void dot_rows_part(const float* rows, int64_t n, int64_t dim, const float* q, float* out) {
  const Df d;
  constexpr int64_t lanes = kLanes;
  for (int64_t i = 0; i < n; ++i, rows += dim) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d);
    int64_t j = 0;
    for (; j + 2 * lanes <= dim; j += 2 * lanes) {
      s0 = hn::MulAdd(load(rows + j), load(q + j), s0);
      s1 = hn::MulAdd(load(rows + j + lanes), load(q + j + lanes), s1);
    }
    float sum = sum_lanes(hn::Add(s0, s1));
    for (; j < dim; ++j) sum += rows[j] * q[j];
    out[i] = sum;
  }
}

void softmax_part(float* x, int64_t n, float scale) {
  if (n == 0) return;
  const Df d;
  constexpr int64_t lanes = kLanes;
  const float top = *std::max_element(x, x + n);
  const Vf shift = hn::Set(d, top), factor = hn::Set(d, scale);
  Vf sums = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Vf e = exp(hn::Mul(hn::Sub(load(x + i), shift), factor));
    sums = hn::Add(sums, e);
    hn::StoreU(e, d, x + i);
  }
  float sum = sum_lanes(sums);
  for (; i < n; ++i) sum += x[i] = exp1((x[i] - top) * scale);
  const float part = 1 / sum;
  for (i = 0; i < n; ++i) x[i] *= part;
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {
HWY_EXPORT(dot_rows_part);
HWY_EXPORT(softmax_part);

void dot_rows(const float* rows, int64_t n, int64_t dim, const float* q, float* out) {
  HWY_DYNAMIC_DISPATCH(dot_rows_part)(rows, n, dim, q, out);
}

void softmax(float* x, int64_t n, float scale) {
  HWY_DYNAMIC_DISPATCH(softmax_part)(x, n, scale);
}
}  // namespace ringtide::kernels
#endif
