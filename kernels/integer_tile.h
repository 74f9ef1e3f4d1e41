// The tile of integer products: rows of activations by one panel of weights, some inputs long.
#pragma once

#include <cstdint>

#include "kernels/integer_rows.h"

namespace ringtide::kernels {

// sums (rows, 32 outputs) += what these inputs add, part by part in order:
//   sum = fma(products of integers, scale * factor, sum), then sum = fma(base, sum of x, sum)
struct IntegerTile {
  IntegerRows x;
  int64_t k;            // inputs of a row
  int64_t row;          // the first, a multiple of 4
  int64_t input;        // the first, a multiple of 32
  const uint8_t* code;  // (inputs / 4, 32 outputs, 4 inputs)
  const float* scale;   // (parts, 32 outputs)
  const float* base;    // (parts, 32 outputs); only where x.sum is
  int64_t parts;        // of inputs that share a scale
  int part_groups;      // of four inputs: 4 or 8
  float* sums;          // (rows, 32 outputs)

  int64_t row_parts;    // of a whole row
  int64_t first_part;

  int64_t byte_at(int64_t r, int64_t i) const { return 4 * row_index(row + r, k / 4, i / 4); }
  int64_t factor_at(int64_t r, int64_t i) const { return row_index(row + r, k / 32, i / 32); }
  int64_t part_at(int64_t r, int64_t part) const {
    return row_index(row + r, row_parts, first_part + part);
  }
};

// Whole packed panels that follow each other. They are read side by side, some inputs of each in
// turn: a processor fetches ahead on several streams, and gets more out of memory than on one.
struct Panels {
  const std::byte* first;
  int64_t bytes;  // of each
  int count;      // at most kPanelStreams
};
constexpr int kPanelStreams = 2;

// At most four rows by packed panels, in place of what precedes them: sums, here (panels, rows, 32
// outputs) and zeros before, become all products. Of the tile it takes x, k, row and sums.
void integer_panels(TensorType type, const IntegerTile& tile, int64_t rows, const Panels& panels);

// With AVX512-VNNI, which takes bytes.
bool has_vnni();
void allow_vnni(bool allow);  // for tests: has_vnni() says no where it is not allowed
void vnni_tile(const IntegerTile& tile, int64_t rows);
void vnni_panel(TensorType type, const IntegerTile& tile, int64_t rows, const std::byte* panel);

}  // namespace ringtide::kernels
