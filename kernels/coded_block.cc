#include "kernels/coded_block.h"

#include <algorithm>
#include <cstring>

namespace ringtide::kernels {
namespace {

// Takes a block's fields one after the other.
class Fields {
 public:
  explicit Fields(const std::byte* p) : p_(reinterpret_cast<const uint8_t*>(p)) {}
  const uint8_t* bytes(int n) { return p_ += n, p_ - n; }
  template <class T>
  T number() {
    T v;
    std::memcpy(&v, bytes(sizeof v), sizeof v);
    return v;
  }

 private:
  const uint8_t* p_;
};

// Elements 2n: n from the low halves of n bytes, then n from the high ones.
void read_nibbles(const uint8_t* q, int n, uint8_t* code) {
  for (int i = 0; i < n; ++i) {
    code[i] = q[i] & 15;
    code[i + n] = q[i] >> 4;
  }
}

void read_q5(Fields in, CodedBlock& b) {
  const auto high = in.number<uint32_t>();
  read_nibbles(in.bytes(16), 16, b.code);
  for (int i = 0; i < 32; ++i) b.code[i] |= (high >> i & 1) << 4;
}

// Q4_K, Q5_K: eight pairs of 6-bit numbers in 12 bytes. The first four pairs lie in the low bits of
// bytes 0..7, the others have their low halves in bytes 8..11 and their high bits above the first.
void read_six_bit_pairs(const uint8_t* p, CodedBlock& b) {
  for (int i = 0; i < 4; ++i) {
    b.scale[i] = static_cast<int8_t>(p[i] & 63);
    b.minimum[i] = static_cast<int8_t>(p[i + 4] & 63);
    b.scale[i + 4] = static_cast<int8_t>((p[i + 8] & 15) | (p[i] >> 6) << 4);
    b.minimum[i + 4] = static_cast<int8_t>(p[i + 8] >> 4 | (p[i + 4] >> 6) << 4);
  }
}

void read_q2_k(Fields in, CodedBlock& b) {
  const uint8_t* scales = in.bytes(16);
  const uint8_t* q = in.bytes(64);
  b.d = in.number<uint16_t>();
  b.m = in.number<uint16_t>();
  for (int i = 0; i < 16; ++i) {
    b.scale[i] = static_cast<int8_t>(scales[i] & 15);
    b.minimum[i] = static_cast<int8_t>(scales[i] >> 4);
  }
  for (int i = 0; i < 256; ++i) b.code[i] = q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

void read_q3_k(Fields in, CodedBlock& b) {
  const uint8_t* high = in.bytes(32);
  const uint8_t* q = in.bytes(64);
  const uint8_t* scales = in.bytes(12);
  b.d = in.number<uint16_t>();
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4;
    const int top = scales[8 + i % 4] >> (i / 4 * 2) & 3;
    b.scale[i] = static_cast<int8_t>((low | top << 4) - 32);
  }
  for (int i = 0; i < 256; ++i) {
    const int low = q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    b.code[i] = static_cast<uint8_t>(low | (high[i % 32] >> (i / 32) & 1) << 2);
  }
}

void read_q4_k(Fields in, CodedBlock& b) {
  b.d = in.number<uint16_t>();
  b.m = in.number<uint16_t>();
  read_six_bit_pairs(in.bytes(12), b);
  for (int i = 0; i < 256; i += 64) read_nibbles(in.bytes(32), 32, b.code + i);
}

void read_q5_k(Fields in, CodedBlock& b) {
  b.d = in.number<uint16_t>();
  b.m = in.number<uint16_t>();
  read_six_bit_pairs(in.bytes(12), b);
  const uint8_t* high = in.bytes(32);
  for (int i = 0; i < 256; i += 64) read_nibbles(in.bytes(32), 32, b.code + i);
  for (int i = 0; i < 256; ++i) b.code[i] |= (high[i % 32] >> (i / 32) & 1) << 4;
}

void read_q6_k(Fields in, CodedBlock& b) {
  for (int i = 0; i < 256; i += 128) read_nibbles(in.bytes(64), 64, b.code + i);
  const uint8_t* high = in.bytes(64);
  std::memcpy(b.scale, in.bytes(16), 16);
  b.d = in.number<uint16_t>();
  for (int i = 0; i < 256; ++i) {
    b.code[i] |= (high[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) << 4;
  }
}

void read_iq4_xs(Fields in, CodedBlock& b) {
  b.d = in.number<uint16_t>();
  const auto top = in.number<uint16_t>();
  const uint8_t* low = in.bytes(4);
  for (int i = 0; i < 8; ++i) {
    const int scale = (low[i / 2] >> (i % 2 * 4) & 15) | (top >> (2 * i) & 3) << 4;
    b.scale[i] = static_cast<int8_t>(scale - 32);
  }
  for (int i = 0; i < 256; i += 32) read_nibbles(in.bytes(16), 16, b.code + i);
}

}  // namespace

void read_block(TensorType type, const std::byte* src, CodedBlock& b) {
  Fields in(src);
  b.m = 0;
  std::fill_n(b.minimum, 16, int8_t{0});
  if (!coding(type).scales) {
    b.scale[0] = 1;
    b.d = in.number<uint16_t>();
    if (coding(type).minimum) {
      b.m = in.number<uint16_t>();
      b.minimum[0] = -1;
    }
  }
  switch (type) {
    case TensorType::F32:
    case TensorType::F16:
    case TensorType::BF16:
      return;
    case TensorType::Q8_0: {
      const uint8_t* q = in.bytes(32);
      for (int i = 0; i < 32; ++i) b.code[i] = q[i] ^ 128;  // two's complement + 128
      return;
    }
    case TensorType::Q4_0:
    case TensorType::Q4_1:
    case TensorType::IQ4_NL:
      return read_nibbles(in.bytes(16), 16, b.code);
    case TensorType::Q5_0:
    case TensorType::Q5_1:
      return read_q5(in, b);
    case TensorType::Q2_K:
      return read_q2_k(in, b);
    case TensorType::Q3_K:
      return read_q3_k(in, b);
    case TensorType::Q4_K:
      return read_q4_k(in, b);
    case TensorType::Q5_K:
      return read_q5_k(in, b);
    case TensorType::Q6_K:
      return read_q6_k(in, b);
    case TensorType::IQ4_XS:
      return read_iq4_xs(in, b);
  }
}

}  // namespace ringtide::kernels
