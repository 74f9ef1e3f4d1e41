// What a gate does to a value, within a millionth of it.
#pragma once

#include "kernels/cuda/elementwise.h"

namespace ringtide::kernels::cuda {

__device__ inline float activate(float x, Gate gate) {
  if (gate == Gate::Silu) return __fdividef(x, 1.0f + __expf(-x));
  constexpr float kRoot = 0.7978845608028654f;  // sqrt(2 / pi)
  return 0.5f * x * (1.0f + tanhf(kRoot * (x + 0.044715f * x * x * x)));
}

}  // namespace ringtide::kernels::cuda
