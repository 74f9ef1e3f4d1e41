#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/element_inl.cuh"
#include "kernels/cuda/weights.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// One thread an element.
template <TensorType Type>
__global__ void convert(const std::byte* src, int64_t rows, int64_t k, int64_t block_bytes,
                        const int32_t* order, bf16* dst) {
  constexpr int kElements = coding(Type).bits > 0 ? coding(Type).elements : 1;
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= rows * k) return;
  const int64_t row = order ? order[at / k] : at / k, i = at % k;
  const std::byte* block = src + (row * (k / kElements) + i / kElements) * block_bytes;
  dst[at] = __float2bfloat16_rn(element_value<Type>(block, static_cast<int>(i % kElements)));
}

// Calls call(std::integral_constant<TensorType, type>).
template <class F, int... Types>
void by_type(TensorType type, const F& call, std::integer_sequence<int, Types...>) {
  ((static_cast<int>(type) == Types
        ? call(std::integral_constant<TensorType, static_cast<TensorType>(Types)>())
        : void()),
   ...);
}

}  // namespace

void dequantize(TensorType type, const std::byte* src, int64_t rows, int64_t k,
                const int32_t* order, bf16* dst, cudaStream_t stream) {
  if (rows * k == 0) return;
  const unsigned blocks = static_cast<unsigned>((rows * k + kThreads - 1) / kThreads);
  by_type(
      type,
      [&](auto of) {
        convert<of()><<<blocks, kThreads, 0, stream>>>(src, rows, k, type_info(type).block_bytes,
                                                       order, dst);
      },
      std::make_integer_sequence<int, kTensorTypes>());
  check_launch("dequantize");
}

}  // namespace ringtide::kernels::cuda
