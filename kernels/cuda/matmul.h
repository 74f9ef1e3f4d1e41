// Matrix products of bf16 with float32 sums: y (m, n) = x (m, k) * w^T, w (n, k) row-major.
//
// Two paths, chosen by what the rows are and never by how many there are, so that batching does not
// change a token: few_rows() for decoded tokens, many_rows() for blocks of a prompt. In each, a
// row's result depends on that row alone, bit for bit.
#pragma once

#include <memory>

#include "kernels/cuda/elementwise.h"

namespace ringtide::kernels::cuda {

enum class Write : uint8_t { Replace, Add };

// For m <= kFewRows. Reads every weight once: bound by memory. Weights are read before the kernel in
// front of it on the stream has ended: that one must not be what writes them.
constexpr int32_t kFewRows = 64;
constexpr int kProductCounters = 256;
struct Product {
  const bf16* x = nullptr;  // (m, k), rows 16-byte aligned
  const bf16* w = nullptr;  // (n, k)
  int32_t m = 0;
  int64_t n = 0, k = 0;     // k a multiple of 8
  bf16* y = nullptr;        // (m, n); or
  float* y32 = nullptr;     // (m, n); exactly one of the two is set
  Write write = Write::Replace;  // Add: y32 only
  // few_rows_scratch() floats. Its first kProductCounters are zeroed once, before the first use;
  // every call leaves them zero. One scratch serves all products of a stream.
  float* scratch = nullptr;
};
int64_t few_rows_scratch(int64_t n, int64_t k);  // floats, enough for any m <= kFewRows
void few_rows(const Product& p, cudaStream_t stream);

// y = activation(x * w^T) . (x * u^T): w (n, k), and u in the n rows after it.
struct GatedProduct {
  const bf16* x = nullptr;  // (m, k), rows 16-byte aligned
  const bf16* w = nullptr;  // (2 n, k)
  int32_t m = 0;
  int64_t n = 0, k = 0;     // multiples of 8
  Gate gate = Gate::Silu;
  bf16* y = nullptr;        // (m, n)
  bf16* between = nullptr;  // (m, 2 n): room for both products; values are anything afterwards
  float* scratch = nullptr;  // gated_few_rows() only: few_rows_scratch(2 n, k), as a Product's
};
// For m <= kFewRows, as few_rows().
void gated_few_rows(const GatedProduct& p, cudaStream_t stream);

// Products of up to kMeasuredRows rows go by what was measured to be fastest for (n, k, kind of output,
// m up to a power of two from kLeastMeasured on) among what gives the same bits: the first of a kind
// waits for the stream.
constexpr int32_t kLeastMeasured = 64, kMeasuredRows = 512;

// On Hopper large matrices by a kernel of our own, all else by cuBLASLt, with the same bits whatever m
// is. Not thread-safe.
class ManyRows {
 public:
  ManyRows();  // throws DeviceError where the library cannot be had
  ~ManyRows();
  void run(const Product& p, cudaStream_t stream);
  void run(const GatedProduct& p, cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ringtide::kernels::cuda
