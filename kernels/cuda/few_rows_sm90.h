// Products of few rows on Hopper: what a gate does to a product is done before it leaves the chip.
#pragma once

#include "kernels/cuda/matmul.h"

namespace ringtide::kernels::cuda {

int64_t few_rows_sm90_scratch(int64_t n, int64_t k);
void few_rows_sm90(const Product& p, cudaStream_t stream);
void gated_few_rows_sm90(const GatedProduct& p, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
