// The arithmetic of a lookup: scores of a query against many rows, and their softmax.
#pragma once

#include <cstdint>

#include "kernels/tensor_type.h"

namespace ringtide::kernels {

// out[h * stride + i] = rows[i, h, :] . q[h, :], added to what is there if `add`. rows (n, heads,
// dim) of `type`, contiguous; q (heads, dim). A result depends on its row alone.
void dot_heads(KvType type, const void* rows, int64_t n, int heads, int64_t dim, const float* q,
               bool add, float* out, int64_t stride);

// x[i] = exp(scale * (x[i] - max x)) / sum of those, i < n. n may be 0.
void softmax(float* x, int64_t n, float scale);

}  // namespace ringtide::kernels
