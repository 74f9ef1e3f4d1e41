#include "kernels/index_scan.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/index_scan.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
//
#include "kernels/simd_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

HWY_INLINE float value(float x) { return x; }
HWY_INLINE float value(uint16_t x) { return half_to_float(x); }

template <class T>
HWY_INLINE float dot(const T* row, int64_t dim, const float* q) {
  const Df d;
  constexpr int64_t lanes = kLanes;
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  int64_t j = 0;
  for (; j + 2 * lanes <= dim; j += 2 * lanes) {
    s0 = hn::MulAdd(load(row + j), load(q + j), s0);
    s1 = hn::MulAdd(load(row + j + lanes), load(q + j + lanes), s1);
  }
  float sum = sum_lanes(hn::Add(s0, s1));
  for (; j < dim; ++j) sum += value(row[j]) * q[j];
  return sum;
}

template <class T>
void dots(const T* rows, int64_t n, int heads, int64_t dim, const float* q, bool add, float* out,
          int64_t stride) {
  for (int64_t i = 0; i < n; ++i)
    for (int h = 0; h < heads; ++h, rows += dim) {
      float& to = out[h * stride + i];
      to = dot(rows, dim, q + h * dim) + (add ? to : 0.0f);
    }
}

void dot_heads_of(KvType type, const void* rows, int64_t n, int heads, int64_t dim, const float* q,
                  bool add, float* out, int64_t stride) {
  if (type == KvType::F16)
    dots(static_cast<const uint16_t*>(rows), n, heads, dim, q, add, out, stride);
  else
    dots(static_cast<const float*>(rows), n, heads, dim, q, add, out, stride);
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
HWY_EXPORT(dot_heads_of);
HWY_EXPORT(softmax_part);

void dot_heads(KvType type, const void* rows, int64_t n, int heads, int64_t dim, const float* q,
               bool add, float* out, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(dot_heads_of)(type, rows, n, heads, dim, q, add, out, stride);
}

void softmax(float* x, int64_t n, float scale) { HWY_DYNAMIC_DISPATCH(softmax_part)(x, n, scale); }
}  // namespace ringtide::kernels
#endif
