// A matrix product as its kernels see it.
#pragma once

#include "kernels/matmul.h"

namespace ringtide::kernels {

struct Product {
  const float* x;
  int64_t m;  // > 0
  PackedMatrix w;
  float* y;
  Write write;
};

// Products with weights of coded types.
void multiply_coded(const Product& p, ThreadPool& threads);

// Products with bfloat16 weights and activations rounded to bfloat16, where the processor has them.
bool has_bfloat_products();
void multiply_bfloat(const Product& p, ThreadPool& threads);

}  // namespace ringtide::kernels
