// Vector helpers shared by the kernels; included once for every Highway target.
// Vectors are of float32 and at most 16 lanes; `Df` is their tag.
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "kernels/half.h"

#if defined(RINGTIDE_KERNELS_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef RINGTIDE_KERNELS_SIMD_INL_H
#undef RINGTIDE_KERNELS_SIMD_INL_H
#else
#define RINGTIDE_KERNELS_SIMD_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Df = hn::CappedTag<float, 16>;
using Di = hn::RebindToSigned<Df>;
using Du = hn::RebindToUnsigned<Df>;
using Vf = hn::Vec<Df>;
using Vu = hn::Vec<Du>;

constexpr size_t kLanes = hn::MaxLanes(Df());
constexpr bool kManyRegisters = kLanes == 16 || HWY_ARCH_ARM_A64;

#undef RINGTIDE_NATIVE_HALF
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_ARCH_ARM_A64
#define RINGTIDE_NATIVE_HALF 1
#else
#define RINGTIDE_NATIVE_HALF 0
#endif

HWY_INLINE Vf load_half(const uint16_t* p) {
#if RINGTIDE_NATIVE_HALF
  const hn::Rebind<hwy::float16_t, Df> dh;
  return hn::PromoteTo(Df(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p)));
#else
  HWY_ALIGN float lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = half_to_float(p[i]);
  return hn::Load(Df(), lanes);
#endif
}

HWY_INLINE void store_half(Vf v, uint16_t* p) {
#if RINGTIDE_NATIVE_HALF
  const hn::Rebind<hwy::float16_t, Df> dh;
  hn::StoreU(hn::DemoteTo(dh, v), dh, reinterpret_cast<hwy::float16_t*>(p));
#else
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, Df(), lanes);
  for (size_t i = 0; i < kLanes; ++i) p[i] = float_to_half(lanes[i]);
#endif
}

HWY_INLINE Vf load(const float* p) { return hn::LoadU(Df(), p); }
HWY_INLINE Vf load(const uint16_t* p) { return load_half(p); }

// The first n < kLanes elements, zeros after them; nothing beyond them is touched.
template <class T>
HWY_INLINE Vf load_part(const T* p, size_t n) {
  HWY_ALIGN T lanes[kLanes] = {};
  for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}

HWY_INLINE void store_part(Vf v, float* p, size_t n) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(v, Df(), lanes);
  for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}

template <class T>
HWY_INLINE Vf load_up_to(const T* p, size_t n) {
  return n >= kLanes ? load(p) : load_part(p, n);
}

HWY_INLINE void store_up_to(Vf v, float* p, size_t n) {
  if (n >= kLanes) {
    hn::StoreU(v, Df(), p);
  } else {
    store_part(v, p, n);
  }
}

HWY_INLINE float sum_lanes(Vf v) { return hn::GetLane(hn::SumOfLanes(Df(), v)); }
HWY_INLINE float max_lanes(Vf v) { return hn::GetLane(hn::MaxOfLanes(Df(), v)); }

// e^x with a relative error below 5e-7; 0 below -87.3, e^88.37 above that, NaN for NaN. exp(0) = 1.
// x = n ln 2 + r, |r| <= ln 2 / 2, and e^r by its Taylor polynomial of degree 6.
HWY_INLINE Vf exp(Vf x) {
  const Df d;
  const Di di;
  const Vf top = hn::Set(d, 88.37f);
  x = hn::IfThenElse(hn::Gt(x, top), top, x);
  const Vf n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  Vf r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);  // ln 2 in two parts, the first exact
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  Vf p = hn::Set(d, 1.f / 720);
  p = hn::MulAdd(p, r, hn::Set(d, 1.f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.f));
  const auto exponent = hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127));
  const Vf power = hn::BitCast(d, hn::ShiftLeft<23>(exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), hn::Mul(p, power));
}

HWY_INLINE float exp1(float x) { return hn::GetLane(exp(hn::Set(Df(), x))); }

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
