// The tile of integer products: rows of activations by one panel of weights, some inputs long.
#pragma once

#include <cstdint>

#include "kernels/integer_rows.h"

namespace ringtide::kernels {

// sums (rows, 32 outputs) += what these inputs add, part by part in order:
//   sum = fma(products of integers, scale * factor, sum), then sum = fma(base, sum of x, sum)
struct IntegerTile {
  IntegerRows x;        // at the first row and input
  int64_t row_bytes;    // from one row to the next: of bytes
  int64_t row_factors;  // of factors
  int64_t row_parts;    // of biases or sums
  const uint8_t* code;  // (inputs / 4, 32 outputs, 4 inputs)
  const float* scale;   // (parts, 32 outputs)
  const float* base;    // (parts, 32 outputs); only where x.sum is
  int64_t parts;
  int part_groups;  // of four inputs: 4 or 8
  float* sums;      // (rows, 32 outputs)
};

// With AVX512-VNNI.
bool has_vnni();
void vnni_tile(IntegerTile tile, int64_t rows);

}  // namespace ringtide::kernels
