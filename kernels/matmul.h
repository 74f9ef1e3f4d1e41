// Matrix products with quantised weights.
//
// A row of the result depends on its own row of x alone: not on how many rows are multiplied
// together, nor on the number of threads, bit for bit (on one machine). Batching, chunking and
// replay therefore never change a token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/tensor_type.h"
#include "kernels/threads.h"

namespace ringtide::kernels {

// What coded weights are multiplied by. Integers share a factor among 32 inputs and are off by at
// most half a step, 1/65024 (Int16) or 1/254 (Int8) of the greatest of the 32; their products with
// the weights' codes are summed exactly. With either, bfloat16 weights are multiplied by activations
// rounded to bfloat16 (off by at most 1/256 of themselves) where the processor has such products;
// F32 and F16 weights, and all of them elsewhere, by float32.
enum class ActivationType : uint8_t { F32, Int16, Int8 };

// Weights of a linear layer, rearranged for the inner loops. Does not own its memory.
struct PackedMatrix {
  TensorType type = TensorType::F32;
  ActivationType activations = ActivationType::F32;
  int64_t n = 0;                    // outputs
  int64_t k = 0;                    // inputs, a multiple of the type's block
  const std::byte* data = nullptr;  // packed_bytes(type, n, k), 64-byte aligned
};

int64_t packed_bytes(TensorType type, int64_t n, int64_t k);

// Rearranges `rows` (n, k) of GGUF's layout into dst. row_order, if not empty, has n entries:
// output i is made from source row row_order[i].
PackedMatrix pack(TensorType type, const std::byte* rows, int64_t n, int64_t k,
                  std::span<const int32_t> row_order, std::byte* dst, ThreadPool& threads);

// Consecutive outputs of a matrix.
struct Outputs {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
// Part `part` of `parts`, as equal as the packing allows; may be empty. Parts follow each other.
Outputs outputs_of(int64_t n, int part, int parts);
// A matrix of these outputs of w alone, which it points into; the bits of its results are those of
// w's. REQUIRES: outputs are a part as above.
PackedMatrix part_of(const PackedMatrix& w, const Outputs& outputs);

enum class Write : uint8_t { Replace, Add };

// y (m, n) = or += x (m, k) * w^T. Sums in float32 over k in a fixed order. m may be 0.
void matmul(const float* x, int64_t m, const PackedMatrix& w, float* y, Write write,
            ThreadPool& threads);

}  // namespace ringtide::kernels
