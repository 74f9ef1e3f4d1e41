// Merge of one row of partial attention.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_MERGE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_MERGE_INL_H
#undef RINGTIDE_KERNELS_MERGE_INL_H
#else
#define RINGTIDE_KERNELS_MERGE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// (o, lse) becomes the merge of itself and (o2, lse2). A part without keys changes nothing.
HWY_INLINE void merge_row(float* o, float* lse, const float* o2, float lse2, int head_dim) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  if (lse2 == kNone) return;
  if (*lse == kNone) {
    *lse = lse2;
    std::copy_n(o2, head_dim, o);
    return;
  }
  const float top = std::max(*lse, lse2);
  const float e = exp1(*lse - top), e2 = exp1(lse2 - top);
  const float weight = e / (e + e2), weight2 = e2 / (e + e2);
  *lse = top + std::log(e + e2);
  const Vf w = hn::Set(Df(), weight), w2 = hn::Set(Df(), weight2);
  for (int i = 0; i < head_dim; i += kLanes) {
    const size_t n = head_dim - i;
    const Vf mine = hn::Mul(w, load_up_to(o + i, n));
    store_up_to(hn::MulAdd(w2, load_up_to(o2 + i, n), mine), o + i, n);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
