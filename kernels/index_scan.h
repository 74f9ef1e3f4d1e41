// The arithmetic of a lookup: scores of a query against many rows, and their softmax.
#pragma once

#include <cstdint>

namespace ringtide::kernels {

// out[i] = rows[i, :] . q, rows (n, dim) contiguous, i < n. A row's result depends on that row alone.
void dot_rows(const float* rows, int64_t n, int64_t dim, const float* q, float* out);

// x[i] = exp(scale * (x[i] - max x)) / sum of those, i < n. n may be 0.
void softmax(float* x, int64_t n, float scale);

}  // namespace ringtide::kernels
