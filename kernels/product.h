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

}  // namespace ringtide::kernels
