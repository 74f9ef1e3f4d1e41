// What an algorithm of cuBLASLt is, for those who know the library.
#pragma once

#include <cublasLt.h>

#include "kernels/cuda/lt_products.h"

namespace ringtide::kernels::cuda {

struct LtProducts::Algorithm {
  cublasLtMatmulAlgo_t algorithm;
};

}  // namespace ringtide::kernels::cuda
