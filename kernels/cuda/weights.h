// Bringing weights to the device: GGUF's blocks to bf16, and random ones for benchmarks.
#pragma once

#include <cstddef>

#include "kernels/cuda/kv.h"
#include "kernels/tensor_type.h"

namespace ringtide::kernels::cuda {

// dst (rows, k) bf16, rounded to nearest even, from rows of GGUF's layout in device memory. order, if
// not null (device, rows entries): output row i is made of source row order[i].
void dequantize(TensorType type, const std::byte* src, int64_t rows, int64_t k,
                const int32_t* order, bf16* dst, cudaStream_t stream);

// dst[i] normal with mean 0 and this deviation, a function of (seed, i).
void fill_normal(bf16* dst, int64_t n, float deviation, uint64_t seed, cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
