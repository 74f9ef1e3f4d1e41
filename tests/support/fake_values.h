// bf16 on the host, for devices of plain loops.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "kernels/half.h"

namespace ringtide::testing {

using kernels::bfloat_to_float;
using kernels::float_to_bfloat;
using kernels::cuda::bf16;

using Half = uint16_t;  // the bits of a bf16

inline float value(const bf16* p, int64_t i) {
  return bfloat_to_float(reinterpret_cast<const Half*>(p)[i]);
}

inline void store(bf16* p, int64_t i, float f) {
  reinterpret_cast<Half*>(p)[i] = float_to_bfloat(f);
}

inline const bf16* at(const bf16* p, int64_t i) {
  return reinterpret_cast<const bf16*>(reinterpret_cast<const Half*>(p) + i);
}
inline bf16* at(bf16* p, int64_t i) {
  return reinterpret_cast<bf16*>(reinterpret_cast<Half*>(p) + i);
}

inline float dot(const bf16* a, const bf16* b, int n) {
  float sum = 0;
  for (int j = 0; j < n; ++j) sum += value(a, j) * value(b, j);
  return sum;
}

}  // namespace ringtide::testing
