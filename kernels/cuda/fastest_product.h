// Which algorithm of cuBLASLt is fastest for few rows of a prompt, found by running them.
#pragma once

#include <map>
#include <optional>
#include <tuple>

#include "kernels/cuda/lt_algorithm.h"

namespace ringtide::kernels::cuda {

// One device's. Not thread-safe.
class FastestProduct {
 public:
  // `usual` makes products of any number of rows: its bits are those that are wanted.
  using Usual = void (*)(void* self, const Product& p, cudaStream_t stream);

  explicit FastestProduct(LtProducts& products) : products_(products) {}

  // For a product of up to kMeasuredRows rows: what gives the bits of `usual` and is faster; none:
  // nothing is. The first of each (n, k, output, rows up to a power of two) waits for the stream,
  // and takes some milliseconds and memory, if there is any; inside of a capture nothing is
  // measured.
  const LtProducts::Algorithm* of(const Product& p, Usual usual, void* self, cudaStream_t stream);

 private:
  using Kind = std::tuple<int64_t, int64_t, bool, bool, int64_t>;
  std::optional<LtProducts::Algorithm> measure(Product p, int64_t rows, Usual usual, void* self,
                                               cudaStream_t stream);

  LtProducts& products_;
  std::map<Kind, std::optional<LtProducts::Algorithm>> known_;
};

}  // namespace ringtide::kernels::cuda
