#include "kernels/dot_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dot_rows.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void DotRows(const float* rows, int64_t n, int64_t dim, const float* q, float* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < n; ++i, rows += dim) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d);
    int64_t j = 0;
    for (; j + 2 * lanes <= dim; j += 2 * lanes) {
      s0 = hn::MulAdd(hn::LoadU(d, rows + j), hn::LoadU(d, q + j), s0);
      s1 = hn::MulAdd(hn::LoadU(d, rows + j + lanes), hn::LoadU(d, q + j + lanes), s1);
    }
    float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
    for (; j < dim; ++j) sum += rows[j] * q[j];
    out[i] = sum;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ringtide::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {
HWY_EXPORT(DotRows);
void dot_rows(const float* rows, int64_t n, int64_t dim, const float* q, float* out) {
  HWY_DYNAMIC_DISPATCH(DotRows)(rows, n, dim, q, out);
}
}  // namespace ringtide::kernels
#endif
