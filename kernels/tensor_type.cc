#include "kernels/tensor_type.h"

#include <cstring>

#include "kernels/coded_block.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/tensor_type.cc"
#include <hwy/foreach_target.h>
//
#include "kernels/simd_inl.h"

HWY_BEFORE_NAMESPACE();
namespace ringtide::kernels::HWY_NAMESPACE {

void floats_to_halves(const float* src, int64_t n, uint16_t* dst) {
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) store_half(load(src + i), dst + i);
  for (; i < n; ++i) dst[i] = float_to_half(src[i]);
}

void halves_to_floats(const uint16_t* src, int64_t n, float* dst) {
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= n; i += kLanes) {
    hn::StoreU(load(src + i), Df(), dst + i);
  }
  for (; i < n; ++i) dst[i] = half_to_float(src[i]);
}

}  // namespace ringtide::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ringtide::kernels {
namespace {

HWY_EXPORT(floats_to_halves);
HWY_EXPORT(halves_to_floats);

uint16_t read16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// All but the last difference is exact: a half has 11 significant bits, a scale with its level at
// most 13 more.
void dequantize_coded(TensorType type, const std::byte* src, int64_t n, float* dst) {
  const Coding c = coding(type);
  CodedBlock b;
  for (; n > 0; n -= c.elements, src += type_info(type).block_bytes) {
    read_block(type, src, b);
    const float d = half_to_float(b.d), m = half_to_float(b.m);
    for (int i = 0; i < c.elements; ++i) {
      const int group = i / c.per_scale;
      const int level = c.table ? kLevels[b.code[i]] : b.code[i] - c.offset;
      const float scaled = d * static_cast<float>(b.scale[group]) * static_cast<float>(level);
      *dst++ = scaled - m * static_cast<float>(b.minimum[group]);
    }
  }
}

}  // namespace

void dequantize(TensorType type, const std::byte* src, int64_t n, float* dst) {
  switch (type) {
    case TensorType::F32:
      if (n > 0) std::memcpy(dst, src, n * sizeof(float));
      return;
    case TensorType::F16:
      return from_kv(KvType::F16, src, n, dst);
    case TensorType::BF16:
      for (int64_t i = 0; i < n; ++i) dst[i] = bfloat_to_float(read16(src + 2 * i));
      return;
    default:
      return dequantize_coded(type, src, n, dst);
  }
}

void to_kv(KvType type, const float* src, int64_t n, void* dst) {
  if (n <= 0) return;
  if (type == KvType::F32) {
    std::memcpy(dst, src, n * sizeof(float));
  } else {
    HWY_DYNAMIC_DISPATCH(floats_to_halves)(src, n, static_cast<uint16_t*>(dst));
  }
}

void from_kv(KvType type, const void* src, int64_t n, float* dst) {
  if (n <= 0) return;
  if (type == KvType::F32) {
    std::memcpy(dst, src, n * sizeof(float));
  } else {
    HWY_DYNAMIC_DISPATCH(halves_to_floats)(static_cast<const uint16_t*>(src), n, dst);
  }
}

}  // namespace ringtide::kernels
#endif  // HWY_ONCE
