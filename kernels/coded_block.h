// Blocks of GGUF's quantised types, taken apart into codes and scales.
//
// Every such type is one idea with other numbers: a block of 32 or 256 elements has one or two
// half-precision factors, each 16 or 32 of its elements share small integer scales, and an element
// is a code of 2 to 8 bits:
//
//   value = d * scale * level(code) - m * minimum
//
// Layouts: as documented in ggml's headers and by the `gguf` Python package.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tensor_type.h"

namespace ringtide::kernels {

struct Coding {
  int bits = 0;         // of a code; 0: the type has no codes (F32, F16, BF16)
  int elements = 32;    // of a block
  int per_scale = 32;   // elements that share a scale
  int offset = 0;       // level(code) = code - offset, where there is no table
  bool table = false;   // level(code) = kLevels[code]
  bool scales = false;  // scale and minimum differ within a block; else 1 and -1
  bool minimum = false;
};

constexpr Coding coding(TensorType type) {
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return {};
    case TensorType::Q8_0:
      return {.bits = 8, .offset = 128};
    case TensorType::Q4_0:
      return {.bits = 4, .offset = 8};
    case TensorType::Q4_1:
      return {.bits = 4, .minimum = true};
    case TensorType::Q5_0:
      return {.bits = 5, .offset = 16};
    case TensorType::Q5_1:
      return {.bits = 5, .minimum = true};
    case TensorType::Q2_K:
      return {.bits = 2, .elements = 256, .per_scale = 16, .scales = true, .minimum = true};
    case TensorType::Q3_K:
      return {.bits = 3, .elements = 256, .per_scale = 16, .offset = 4, .scales = true};
    case TensorType::Q4_K:
      return {.bits = 4, .elements = 256, .scales = true, .minimum = true};
    case TensorType::Q5_K:
      return {.bits = 5, .elements = 256, .scales = true, .minimum = true};
    case TensorType::Q6_K:
      return {.bits = 6, .elements = 256, .per_scale = 16, .offset = 32, .scales = true};
    case TensorType::IQ4_NL:
      return {.bits = 4, .table = true};
    case TensorType::IQ4_XS:
      return {.bits = 4, .elements = 256, .table = true, .scales = true};
  }
  return {};
}

// Levels of the IQ4 types.
inline constexpr int8_t kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                       1,    13,   25,  38,  53,  69,  89,  113};
// The same as unsigned bytes.
inline constexpr int kLevelOffset = 128;
constexpr std::array<uint8_t, 16> level_bytes() {
  std::array<uint8_t, 16> bytes{};
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(kLevels[i] + kLevelOffset);
  return bytes;
}

struct CodedBlock {
  uint16_t d = 0, m = 0;  // half precision
  int8_t scale[16];
  int8_t minimum[16];
  uint8_t code[256];
};

// REQUIRES: coding(type).bits > 0. Fills what the type has; m and the minima are 0 where it has
// none.
void read_block(TensorType type, const std::byte* src, CodedBlock& block);

}  // namespace ringtide::kernels
