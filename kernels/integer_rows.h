// Rows of activations as integers: each 32 inputs share a factor, x = factor * q.
//
// An 8-bit q is at most 127 in magnitude, a 16-bit one at most 127 * 256. For byte-wise dot products
// it is kept as a byte, or as two, q = 256 high + low, both signed; for others as a 16-bit integer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/coded_block.h"
#include "kernels/threads.h"

namespace ringtide::kernels {

constexpr int64_t kFactorInputs = 32;  // inputs that share a factor

// What the tiles of integer products need of rows. A part is the 16 or 32 inputs that share a
// scale of the weights. Four rows lie side by side, so that a tile reads them from one pointer:
// (rows / 4, n, 4 rows) for n numbers a row, where the bytes of four inputs count as one.
struct IntegerRows {
  // Bytes of q, or null.
  const int8_t* high = nullptr;  // (rows / 4, k / 4, 4 rows, 4 inputs); 8-bit: q itself
  const int8_t* low = nullptr;   // as high; 8-bit: null
  // Or q in 16 bits, (rows / 4, k / 4, 2 pairs, 4 rows): of four inputs, 0 (the low half) with 2,
  // and 1 with 3, as the bytes of a word of codes come apart.
  const int32_t* pairs = nullptr;
  const float* factor = nullptr;  // (rows / 4, k / 32, 4 rows)
  // Weights without minima: -offset * sum of q over the part, to be added to the sums of products,
  // since a code is its level + offset. (rows / 4, parts, 4 rows), else null.
  const int32_t* bias = nullptr;
  // Weights with minima: factor * sum of q over the part, to be multiplied by the minima.
  const float* sum = nullptr;
};

// Where number i of a row stands, of n a row.
constexpr int64_t row_index(int64_t row, int64_t n, int64_t i) {
  return (row / 4 * n + i) * 4 + row % 4;
}

// Where the first pair of inputs i to i + 3 of a row stands.
constexpr int64_t pair_index(int64_t row, int64_t k, int64_t i) {
  return (row / 4 * (k / 4) + i / 4) * 8 + row % 4;
}

struct IntegerForm {
  bool wide;   // 16-bit, else 8-bit
  bool bytes;  // for byte-wise dot products
};

// Bytes of memory, 64-byte aligned, that make_rows() fills.
size_t integer_rows_bytes(int64_t m, int64_t k, const Coding& weights, IntegerForm form);

// x (m, k), k a multiple of 32, as integers for weights of this coding. A value that is not finite
// makes its group's factor NaN.
IntegerRows make_rows(const float* x, int64_t m, int64_t k, const Coding& weights, IntegerForm form,
                      std::byte* memory, ThreadPool& threads);

}  // namespace ringtide::kernels
