// Rows of activations as integers: each 32 inputs share a factor, x = factor * q.
//
// An 8-bit q is at most 127 in magnitude. A 16-bit one is kept as two bytes, q = 256 high + low,
// both signed, and is at most 127 * 256: byte-wise dot products then serve either.
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
  const int8_t* high = nullptr;   // (rows / 4, k / 4, 4 rows, 4 inputs); 8-bit: q itself
  const int8_t* low = nullptr;    // as high; 8-bit: null
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

// Bytes of memory, 64-byte aligned, that make_rows() fills.
size_t integer_rows_bytes(int64_t m, int64_t k, const Coding& weights, bool wide);

// x (m, k), k a multiple of 32, as 16-bit (wide) or 8-bit integers for weights of this coding. A
// value that is not finite makes its group's factor NaN.
IntegerRows make_rows(const float* x, int64_t m, int64_t k, const Coding& weights, bool wide,
                      std::byte* memory, ThreadPool& threads);

}  // namespace ringtide::kernels
