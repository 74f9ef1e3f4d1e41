// The tensor cores' matrix product of sm_80 and its way in: asynchronous copies to shared memory
// and ldmatrix. Layouts of fragments: PTX ISA, "Matrix fragments for mma.m16n8k16".
//
// Tiles lie in shared memory as rows of 16-byte chunks. Chunk c of row r is kept at place
// swizzle(r, c), so that the 8 rows that ldmatrix reads at one chunk fall into different banks.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/shared_memory_inl.cuh"

namespace ringtide::kernels::cuda {

// For rows of a multiple of 8 chunks.
__device__ inline int swizzle(int row, int chunk) { return chunk ^ (row & 7); }

// 16 bytes, or zeros where `valid` is false: then src is not read. The cache also gets the rest of
// their 128 bytes; copy_stream(): of their 256, for long rows read in order.
__device__ inline void copy_async(uint32_t dst, const void* src, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(dst), "l"(src),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void copy_stream(uint32_t dst, const void* src, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;\n" ::"r"(dst), "l"(src),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Until at most `Pending` of this thread's groups are on their way.
template <int Pending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
}

// c (16 x 8, float32) += a (16 x 16) * b (16 x 8). A column of c depends on that column of b alone.
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

}  // namespace ringtide::kernels::cuda
