#include "kernels/tensor_type.h"

#include <cstring>

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

constexpr TypeInfo kTypes[] = {{"F32", 1, 4},    {"F16", 1, 2},    {"BF16", 1, 2},
                               {"Q8_0", 32, 34}, {"Q4_0", 32, 18}, {"Q4_1", 32, 20}};

uint16_t read16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

float read_half(const std::byte* p) { return half_to_float(read16(p)); }

void dequantize_q8_0(const std::byte* src, int64_t n, float* dst) {
  for (; n > 0; n -= 32, src += 34, dst += 32) {
    const float d = read_half(src);
    for (int i = 0; i < 32; ++i) dst[i] = d * std::to_integer<int8_t>(src[2 + i]);
  }
}

void dequantize_nibbles(const std::byte* qs, float d, float m, float* dst) {
  for (int i = 0; i < 16; ++i) {
    const int q = std::to_integer<int>(qs[i]);
    dst[i] = d * static_cast<float>(q & 15) + m;
    dst[i + 16] = d * static_cast<float>(q >> 4) + m;
  }
}

void dequantize_q4_0(const std::byte* src, int64_t n, float* dst) {
  for (; n > 0; n -= 32, src += 18, dst += 32) {
    const float d = read_half(src);
    dequantize_nibbles(src + 2, d, -8 * d, dst);
  }
}

void dequantize_q4_1(const std::byte* src, int64_t n, float* dst) {
  for (; n > 0; n -= 32, src += 20, dst += 32) {
    dequantize_nibbles(src + 4, read_half(src), read_half(src + 2), dst);
  }
}

}  // namespace

const TypeInfo& type_info(TensorType type) { return kTypes[static_cast<int>(type)]; }

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
    case TensorType::Q8_0:
      return dequantize_q8_0(src, n, dst);
    case TensorType::Q4_0:
      return dequantize_q4_0(src, n, dst);
    case TensorType::Q4_1:
      return dequantize_q4_1(src, n, dst);
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
