// The ways a weight is kept: GGUF's tensor types that we serve, and their blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ringtide::kernels {

enum class TensorType : uint8_t {
  F32,
  F16,
  BF16,
  Q8_0,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_NL,
  IQ4_XS,
};
inline constexpr int kTensorTypes = 15;

struct TypeInfo {
  std::string_view name;
  int64_t block_elements;  // elements of a block; a row is a whole number of blocks
  int64_t block_bytes;
};
const TypeInfo& type_info(TensorType type);

inline int64_t row_bytes(TensorType type, int64_t elements) {
  const TypeInfo& t = type_info(type);
  return elements / t.block_elements * t.block_bytes;
}

// dst[0..n) = the values of n elements in GGUF's layout, n a multiple of the type's block.
void dequantize(TensorType type, const std::byte* src, int64_t n, float* dst);

// How keys and values are kept.
enum class KvType : uint8_t { F32, F16 };
inline int64_t kv_bytes(KvType type) { return type == KvType::F32 ? 4 : 2; }
void to_kv(KvType type, const float* src, int64_t n, void* dst);  // rounds to nearest even
void from_kv(KvType type, const void* src, int64_t n, float* dst);

}  // namespace ringtide::kernels
