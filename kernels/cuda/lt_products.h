// Products by cuBLASLt.
//
// A row's result must not depend on how many rows there are. For each (n, k, output) one algorithm
// is chosen, at a typical number of rows, from those that do not split k: it says what the bits
// are. For few rows there are faster ones: those measured, on this device and once, that give the
// same bits.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cuda/matmul.h"

namespace ringtide::kernels::cuda {

// One device's. Not thread-safe.
class LtProducts {
 public:
  LtProducts();  // throws DeviceError where the library cannot be had
  ~LtProducts();

  // An algorithm for the product's (n, k, output), from a list of this class.
  struct Algorithm;
  // The one for any number of rows.
  const Algorithm& usual(const Product& p);
  // Of those that may be faster for this many rows.
  std::vector<Algorithm> candidates(const Product& p, int64_t rows);
  void run(const Product& p, const Algorithm& algorithm, cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ringtide::kernels::cuda
