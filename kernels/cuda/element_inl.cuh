// One element of a block of each of GGUF's types, for kernels/tensor_type.h: as coded_block.h takes
// blocks apart, and in the same arithmetic, so that values are the CPU's bit for bit.
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/coded_block.h"

namespace ringtide::kernels::cuda {

// value = d * scale * level - m * minimum.
struct Element {
  float d = 0;
  int scale = 1, code = 0;
  float m = 0;
  int minimum = 0;
};

class Block {
 public:
  __device__ explicit Block(const std::byte* p) : p_(reinterpret_cast<const uint8_t*>(p)) {}
  __device__ int byte(int at) const { return p_[at]; }
  __device__ int bits(int at, int shift, int n) const { return p_[at] >> shift & ((1 << n) - 1); }
  __device__ uint32_t number16(int at) const { return p_[at] | uint32_t{p_[at + 1]} << 8; }
  __device__ uint32_t number32(int at) const { return number16(at) | number16(at + 2) << 16; }
  __device__ float half(int at) const {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(number16(at))));
  }
  // Element i where each n bytes from `at` on hold 2n: n in their low halves, then n in the high.
  __device__ int nibble(int at, int n, int i) const {
    return bits(at + i / (2 * n) * n + i % n, i % (2 * n) / n * 4, 4);
  }
  // Where 128 elements have 2 bits each in 32 bytes.
  __device__ int pair(int at, int i) const {
    return bits(at + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2);
  }
  // Where each of 32 bytes has a bit of 8 elements.
  __device__ int bit(int at, int i) const { return bits(at + i % 32, i / 32, 1); }

 private:
  const uint8_t* p_;
};

// Q4_K, Q5_K: scale and minimum of 32 elements, six bits each, from the 12 bytes at `at`.
__device__ inline void six_bits(const Block& b, int at, int group, Element& e) {
  const int i = at + group % 4;
  if (group < 4) {
    e.scale = b.bits(i, 0, 6);
    e.minimum = b.bits(i + 4, 0, 6);
  } else {
    e.scale = b.bits(i + 8, 0, 4) | b.bits(i, 6, 2) << 4;
    e.minimum = b.bits(i + 8, 4, 4) | b.bits(i + 4, 6, 2) << 4;
  }
}

// Element i of a block. One function a type.
template <TensorType Type>
__device__ Element element(const Block& b, int i);

template <>
__device__ inline Element element<TensorType::Q8_0>(const Block& b, int i) {
  return {b.half(0), 1, b.byte(2 + i) ^ 128};
}
template <>
__device__ inline Element element<TensorType::Q4_0>(const Block& b, int i) {
  return {b.half(0), 1, b.nibble(2, 16, i)};
}
template <>
__device__ inline Element element<TensorType::Q4_1>(const Block& b, int i) {
  return {b.half(0), 1, b.nibble(4, 16, i), b.half(2), -1};
}
template <>
__device__ inline Element element<TensorType::Q5_0>(const Block& b, int i) {
  return {b.half(0), 1, static_cast<int>(b.nibble(6, 16, i) | (b.number32(2) >> i & 1) << 4)};
}
template <>
__device__ inline Element element<TensorType::Q5_1>(const Block& b, int i) {
  return {b.half(0), 1, static_cast<int>(b.nibble(8, 16, i) | (b.number32(4) >> i & 1) << 4),
          b.half(2), -1};
}
template <>
__device__ inline Element element<TensorType::Q2_K>(const Block& b, int i) {
  return {b.half(80), b.bits(i / 16, 0, 4), b.pair(16, i), b.half(82), b.bits(i / 16, 4, 4)};
}
template <>
__device__ inline Element element<TensorType::Q3_K>(const Block& b, int i) {
  const int group = i / 16;
  const int low = b.bits(96 + group % 8, group / 8 * 4, 4);
  const int top = b.bits(104 + group % 4, group / 4 * 2, 2);
  return {b.half(108), (low | top << 4) - 32, b.pair(32, i) | b.bit(0, i) << 2};
}
template <>
__device__ inline Element element<TensorType::Q4_K>(const Block& b, int i) {
  Element e{b.half(0), 0, b.nibble(16, 32, i), b.half(2)};
  six_bits(b, 4, i / 32, e);
  return e;
}
template <>
__device__ inline Element element<TensorType::Q5_K>(const Block& b, int i) {
  Element e{b.half(0), 0, b.nibble(48, 32, i) | b.bit(16, i) << 4, b.half(2)};
  six_bits(b, 4, i / 32, e);
  return e;
}
template <>
__device__ inline Element element<TensorType::Q6_K>(const Block& b, int i) {
  return {b.half(208), static_cast<int8_t>(b.byte(192 + i / 16)),
          b.nibble(0, 64, i) | b.pair(128, i) << 4};
}
template <>
__device__ inline Element element<TensorType::IQ4_NL>(const Block& b, int i) {
  return {b.half(0), 1, b.nibble(2, 16, i)};
}
template <>
__device__ inline Element element<TensorType::IQ4_XS>(const Block& b, int i) {
  const int group = i / 32;
  const int low = b.bits(4 + group / 2, group % 2 * 4, 4);
  const int top = static_cast<int>(b.number16(2) >> (2 * group) & 3);
  return {b.half(0), (low | top << 4) - 32, b.nibble(8, 16, i)};
}

// kLevels[code], from words that are constants of the code.
template <int Word>
__device__ constexpr uint32_t level_word() {
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= uint32_t{level_bytes()[4 * Word + i]} << (8 * i);
  return word;
}
__device__ inline int table_level(int code) {
  constexpr uint32_t kWords[4] = {level_word<0>(), level_word<1>(), level_word<2>(),
                                  level_word<3>()};
  const uint32_t word =
      code < 8 ? (code < 4 ? kWords[0] : kWords[1]) : (code < 12 ? kWords[2] : kWords[3]);
  return static_cast<int>(word >> (code % 4 * 8) & 255) - kLevelOffset;
}

template <TensorType Type>
__device__ float element_value(const std::byte* block, int i) {
  const Block b(block);
  if constexpr (Type == TensorType::F32) {
    return __uint_as_float(b.number32(0));
  } else if constexpr (Type == TensorType::F16) {
    return b.half(0);
  } else if constexpr (Type == TensorType::BF16) {
    return __uint_as_float(b.number16(0) << 16);
  } else {
    constexpr Coding kCoding = coding(Type);
    const Element e = element<Type>(b, i);
    const int level = kCoding.table ? table_level(e.code) : e.code - kCoding.offset;
    // Not fused, as on the CPU.
    const float scaled =
        __fmul_rn(__fmul_rn(e.d, static_cast<float>(e.scale)), static_cast<float>(level));
    return __fsub_rn(scaled, __fmul_rn(e.m, static_cast<float>(e.minimum)));
  }
}

}  // namespace ringtide::kernels::cuda
