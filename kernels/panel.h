// How packed weights lie in memory: panels of 32 outputs, an output in each lane.
//
// A panel holds its blocks one after the other (a block is the type's block_elements inputs of all
// 32 outputs); outputs past n are zeros. Within a block, outputs innermost:
//   F32, F16, BF16  value[32]
//   Q8_0            d[32], int8 q[32 inputs][32]
//   Q4_0            d[32], uint32 w[4][32]: nibble j of w[g] is q of input 8 g + j
//   Q4_1            d[32], m[32], w as in Q4_0
// with d and m in half precision. A panel is as large as its 32 rows were.
#pragma once

#include <cstdint>

#include "kernels/tensor_type.h"

namespace ringtide::kernels {

constexpr int64_t kPanel = 32;

inline int64_t panel_count(int64_t n) { return (n + kPanel - 1) / kPanel; }
inline int64_t panel_bytes(TensorType type, int64_t k) { return kPanel * row_bytes(type, k); }

}  // namespace ringtide::kernels
