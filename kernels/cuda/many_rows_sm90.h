// Products over many rows on Hopper, for matrices that are large enough to fill it: what follows a
// product is done on its results before they leave the chip.
#pragma once

#include "kernels/cuda/matmul.h"

namespace ringtide::kernels::cuda {

// Whether products of this size are for it: a function of the matrix alone, never of the rows.
bool sm90_serves(int64_t n, int64_t k);
void many_rows_sm90(const Product& p, cudaStream_t stream);
void gated_rows_sm90(const GatedProduct& p, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
