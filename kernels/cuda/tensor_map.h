// Tensor maps: what the bulk copy engine knows of an array in global memory.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>

#include "kernels/cuda/kv.h"

namespace ringtide::kernels::cuda {

// An array of bf16 or float32 seen in `kRank` dimensions, the innermost first and contiguous, and the
// box that one copy takes of it. In shared memory boxes are swizzled over 128 bytes, so box[0] is 64,
// or 32 of float32; what lies outside of the array is zero. Strides are in bytes, of dimensions 1 and
// up; multiples of 16.
template <int kRank, class T = bf16>
struct TensorView {
  const T* base = nullptr;  // 16-byte aligned
  std::array<uint64_t, kRank> size = {};
  std::array<uint64_t, kRank - 1> stride = {};
  std::array<uint32_t, kRank> box = {};
};

// Throws DeviceError where the driver refuses it or does not know tensor maps.
CUtensorMap tensor_map(const TensorView<2>& view);
CUtensorMap tensor_map(const TensorView<2, float>& view);
CUtensorMap tensor_map(const TensorView<3>& view);
CUtensorMap tensor_map(const TensorView<4>& view);

}  // namespace ringtide::kernels::cuda
