// How packed weights lie in memory: panels of 32 outputs, an output in each lane.
//
// A panel holds its blocks one after the other (a block is the type's block_elements inputs of all
// 32 outputs); outputs past n are zeros. Within a block, outputs innermost:
//   F32, F16  value[32]
//   BF16      value[32][2]: pairs of inputs; the last input of an odd number has a zero beside it
//   coded     d[32], m[32] if the type has minima, in half precision; then for each 32 inputs
//             scale[32 / per_scale][32] and, with minima, minimum[32 / per_scale][32], int8, of
//             types whose scales differ within a block; then the planes of the codes' bits.
// A plane of b = 8, 4, 2 or 1 bits is uint32 w[b][32]: byte i of w[g], bits b s to b s + b - 1, is
// that of input 4 (g + b s) + i: four inputs in every word, as byte-wise dot products take them.
// Codes of 6, 5 and 3 bits have a plane of their low 4 or 2 bits and one of the rest.
#pragma once

#include <cstdint>

#include "kernels/coded_block.h"
#include "kernels/tensor_type.h"

namespace ringtide::kernels {

constexpr int64_t kPanel = 32;

inline int64_t panel_count(int64_t n) { return (n + kPanel - 1) / kPanel; }

// Bits of a code's low and high plane.
constexpr int low_bits(const Coding& c) { return c.bits >= 8 ? 8 : c.bits >= 4 ? 4 : 2; }
constexpr int high_bits(const Coding& c) { return c.bits - low_bits(c); }

// Of a coded type's packed block: before its first 32 inputs, and of each 32 inputs.
constexpr int64_t header_bytes(const Coding& c) { return kPanel * (c.minimum ? 4 : 2); }
constexpr int64_t scale_bytes(const Coding& c) {
  return c.scales ? kPanel * (32 / c.per_scale) * (c.minimum ? 2 : 1) : 0;
}
constexpr int64_t part_bytes(const Coding& c) { return scale_bytes(c) + kPanel * 4 * c.bits; }
constexpr int64_t coded_bytes(const Coding& c) {
  return header_bytes(c) + c.elements / 32 * part_bytes(c);
}

inline int64_t panel_bytes(TensorType type, int64_t k) {
  const Coding c = coding(type);
  if (c.bits > 0) return k / c.elements * coded_bytes(c);
  if (type == TensorType::BF16) return kPanel * 4 * ((k + 1) / 2);
  return kPanel * row_bytes(type, k);
}

}  // namespace ringtide::kernels
