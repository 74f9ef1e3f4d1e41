// Rotation of one vector: the pair (x[j], x[j + half]) by angle j.
#include "kernels/simd_inl.h"

#if defined(RINGTIDE_KERNELS_ROPE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_ROPE_INL_H
#undef RINGTIDE_KERNELS_ROPE_INL_H
#else
#define RINGTIDE_KERNELS_ROPE_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

// x holds floats or halves; y may be x.
template <class T>
HWY_INLINE void rotate(const T* x, int64_t half, const float* cos, const float* sin, float* y) {
  for (int64_t j = 0; j < half; j += kLanes) {
    const size_t n = half - j;
    const Vf a = load_up_to(x + j, n);
    const Vf b = load_up_to(x + half + j, n);
    const Vf c = load_up_to(cos + j, n);
    const Vf s = load_up_to(sin + j, n);
    store_up_to(hn::NegMulAdd(b, s, hn::Mul(a, c)), y + j, n);
    store_up_to(hn::MulAdd(a, s, hn::Mul(b, c)), y + half + j, n);
  }
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
