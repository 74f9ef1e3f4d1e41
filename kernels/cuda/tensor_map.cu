#include <cudaTypedefs.h>

#include <type_traits>

#include "kernels/cuda/check.h"
#include "kernels/cuda/tensor_map.h"

namespace ringtide::kernels::cuda {
namespace {

// Asked of the driver at run time: programs that link it do not start where there is none.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                           cudaEnableDefault, &status),
          "cuTensorMapEncodeTiled");
    if (status != cudaDriverEntryPointSuccess || !found)
      throw DeviceError("the driver has no cuTensorMapEncodeTiled: CUDA 12 or newer is needed");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
  }();
  return encode;
}

template <int kRank, class T>
CUtensorMap encode(const TensorView<kRank, T>& view) {
  CUtensorMap map;
  std::array<uint32_t, kRank> steps;
  steps.fill(1);
  const CUresult status =
      encoder()(&map,
                std::is_same_v<T, float> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                                         : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                kRank, const_cast<T*>(view.base),
                view.size.data(), view.stride.data(), view.box.data(), steps.data(),
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw DeviceError("cuTensorMapEncodeTiled: error " + std::to_string(status));
  return map;
}

}  // namespace

CUtensorMap tensor_map(const TensorView<2>& view) { return encode(view); }
CUtensorMap tensor_map(const TensorView<2, float>& view) { return encode(view); }
CUtensorMap tensor_map(const TensorView<3>& view) { return encode(view); }
CUtensorMap tensor_map(const TensorView<4>& view) { return encode(view); }

}  // namespace ringtide::kernels::cuda
