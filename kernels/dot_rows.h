// Inner products of one vector with many: the scan of an index.
#pragma once

#include <cstdint>

namespace ringtide::kernels {

// out[i] = rows[i, :] . q, rows (n, dim) contiguous, i < n. A row's result depends on that row alone.
void dot_rows(const float* rows, int64_t n, int64_t dim, const float* q, float* out);

}  // namespace ringtide::kernels
