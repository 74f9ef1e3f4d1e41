#include "tests/support/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace ringtide::testing {
namespace {

constexpr size_t kBlock = 32;

// Rounds to nearest even; values too small for a normal half become 0.
uint16_t to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude < 0x38800000) return sign;
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  const uint32_t half = (rounded >> 13) - (112u << 10);
  return static_cast<uint16_t>(sign | std::min(half, 0x7c00u));
}

float from_half(uint16_t half) {
  if ((half & 0x7fff) == 0) return 0;
  return std::bit_cast<float>((half & 0x8000u) << 16 | ((half & 0x7fffu) + (112u << 10)) << 13);
}

uint16_t to_bfloat(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

class Bytes {
 public:
  template <class T>
  void put(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    out.insert(out.end(), from, from + sizeof value);
  }
  std::vector<std::byte> out;
};

int level(float value, float scale, int low, int high) {
  if (scale == 0) return std::clamp(0, low, high);
  return std::clamp(static_cast<int>(std::lround(value / scale)), low, high);
}

void put_nibbles(Bytes& out, const int (&levels)[kBlock]) {
  for (size_t i = 0; i < kBlock / 2; ++i) {
    out.put(static_cast<uint8_t>(levels[i] | levels[i + kBlock / 2] << 4));
  }
}

void put_q8_0(Bytes& out, std::span<const float> block) {
  float largest = 0;
  for (const float v : block) largest = std::max(largest, std::abs(v));
  const uint16_t half = to_half(largest / 127);
  out.put(half);
  for (const float v : block) {
    out.put(static_cast<int8_t>(level(v, from_half(half), -127, 127)));
  }
}

void put_q4_0(Bytes& out, std::span<const float> block) {
  float largest = 0;
  for (const float v : block) {
    if (std::abs(v) > std::abs(largest)) largest = v;
  }
  const uint16_t half = to_half(largest / -8);
  out.put(half);
  int levels[kBlock];
  for (size_t i = 0; i < kBlock; ++i) levels[i] = level(block[i], from_half(half), -8, 7) + 8;
  put_nibbles(out, levels);
}

void put_q4_1(Bytes& out, std::span<const float> block) {
  const auto [low, high] = std::ranges::minmax(block);
  const uint16_t scale = to_half((high - low) / 15);
  const uint16_t least = to_half(low);
  out.put(scale);
  out.put(least);
  int levels[kBlock];
  for (size_t i = 0; i < kBlock; ++i) {
    levels[i] = level(block[i] - from_half(least), from_half(scale), 0, 15);
  }
  put_nibbles(out, levels);
}

}  // namespace

uint32_t type_number(std::string_view type) {
  if (type == "F32") return 0;
  if (type == "F16") return 1;
  if (type == "Q4_0") return 2;
  if (type == "Q4_1") return 3;
  if (type == "Q8_0") return 8;
  if (type == "BF16") return 30;
  throw std::invalid_argument("no type " + std::string(type) +
                              "; known: F32, F16, BF16, Q8_0, Q4_0, Q4_1");
}

std::vector<std::byte> quantize(std::string_view type, std::span<const float> values) {
  const uint32_t number = type_number(type);
  Bytes out;
  if (number == type_number("F32") || number == type_number("F16") ||
      number == type_number("BF16")) {
    for (const float v : values) {
      if (number == type_number("F32")) {
        out.put(v);
      } else {
        out.put(number == type_number("F16") ? to_half(v) : to_bfloat(v));
      }
    }
    return out.out;
  }
  if (values.size() % kBlock != 0) {
    throw std::invalid_argument(std::string(type) + " takes whole blocks of 32 values");
  }
  for (size_t i = 0; i < values.size(); i += kBlock) {
    const auto block = values.subspan(i, kBlock);
    if (number == type_number("Q8_0")) {
      put_q8_0(out, block);
    } else if (number == type_number("Q4_0")) {
      put_q4_0(out, block);
    } else {
      put_q4_1(out, block);
    }
  }
  return out.out;
}

}  // namespace ringtide::testing
