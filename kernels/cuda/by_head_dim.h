// Kernels are compiled for each head_dim there is: picks the one, or throws.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

namespace ringtide::kernels::cuda {

// call(std::integral_constant<int, head_dim>).
template <class F>
void by_head_dim(int head_dim, const F& call) {
  switch (head_dim) {
    case 64:
      return call(std::integral_constant<int, 64>());
    case 128:
      return call(std::integral_constant<int, 128>());
    case 256:
      return call(std::integral_constant<int, 256>());
  }
  throw std::invalid_argument("head_dim " + std::to_string(head_dim) +
                              " has no GPU kernels: they exist for 64, 128 and 256");
}

}  // namespace ringtide::kernels::cuda
