#include <cuda_fp16.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/weights.h"

namespace ringtide::kernels::cuda {
namespace {

// Each type: elements and bytes of a block, and element i of one, as the CPU computes it, bit for
// bit: multiplications and additions are not fused.
__device__ uint16_t read16(const std::byte* p) {
  return static_cast<uint16_t>(std::to_integer<uint16_t>(p[0]) | std::to_integer<uint16_t>(p[1])
                                                                     << 8);
}
__device__ float read_half(const std::byte* p) { return __half2float(__ushort_as_half(read16(p))); }

struct F32 {
  static constexpr int kElements = 1, kBytes = 4;
  __device__ static float value(const std::byte* block, int) {
    return __uint_as_float(read16(block) | uint32_t{read16(block + 2)} << 16);
  }
};
struct F16 {
  static constexpr int kElements = 1, kBytes = 2;
  __device__ static float value(const std::byte* block, int) { return read_half(block); }
};
struct BF16 {
  static constexpr int kElements = 1, kBytes = 2;
  __device__ static float value(const std::byte* block, int) {
    return __uint_as_float(uint32_t{read16(block)} << 16);
  }
};
struct Q8_0 {
  static constexpr int kElements = 32, kBytes = 34;
  __device__ static float value(const std::byte* block, int i) {
    return __fmul_rn(read_half(block), static_cast<float>(std::to_integer<int8_t>(block[2 + i])));
  }
};
__device__ float nibble(const std::byte* qs, int i) {
  const int both = std::to_integer<int>(qs[i % 16]);
  return static_cast<float>(i < 16 ? both & 15 : both >> 4);
}
struct Q4_0 {
  static constexpr int kElements = 32, kBytes = 18;
  __device__ static float value(const std::byte* block, int i) {
    const float d = read_half(block);
    return __fadd_rn(__fmul_rn(d, nibble(block + 2, i)), __fmul_rn(-8.0f, d));
  }
};
struct Q4_1 {
  static constexpr int kElements = 32, kBytes = 20;
  __device__ static float value(const std::byte* block, int i) {
    return __fadd_rn(__fmul_rn(read_half(block), nibble(block + 4, i)), read_half(block + 2));
  }
};

constexpr int kThreads = 256;

// One thread an element.
template <class Type>
__global__ void convert(const std::byte* src, int64_t rows, int64_t k, const int32_t* order,
                        bf16* dst) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= rows * k) return;
  const int64_t row = order ? order[at / k] : at / k, i = at % k;
  const int64_t block = row * (k / Type::kElements) + i / Type::kElements;
  const float x = Type::value(src + block * Type::kBytes, static_cast<int>(i % Type::kElements));
  dst[at] = __float2bfloat16_rn(x);
}

template <class Type>
void launch(const std::byte* src, int64_t rows, int64_t k, const int32_t* order, bf16* dst,
            cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>((rows * k + kThreads - 1) / kThreads);
  convert<Type><<<blocks, kThreads, 0, stream>>>(src, rows, k, order, dst);
}

}  // namespace

void dequantize(TensorType type, const std::byte* src, int64_t rows, int64_t k,
                const int32_t* order, bf16* dst, cudaStream_t stream) {
  if (rows * k == 0) return;
  switch (type) {
    case TensorType::F32:
      launch<F32>(src, rows, k, order, dst, stream);
      break;
    case TensorType::F16:
      launch<F16>(src, rows, k, order, dst, stream);
      break;
    case TensorType::BF16:
      launch<BF16>(src, rows, k, order, dst, stream);
      break;
    case TensorType::Q8_0:
      launch<Q8_0>(src, rows, k, order, dst, stream);
      break;
    case TensorType::Q4_0:
      launch<Q4_0>(src, rows, k, order, dst, stream);
      break;
    case TensorType::Q4_1:
      launch<Q4_1>(src, rows, k, order, dst, stream);
      break;
  }
  check_launch("dequantize");
}

}  // namespace ringtide::kernels::cuda
