// Shared memory as PTX sees it.
#pragma once

#include <cstdint>

namespace ringtide::kernels::cuda {

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four 8x8 matrices of 16-bit values: lane l gives the address of row l % 8 of matrix l / 8, and
// gets, of each matrix, row l / 4, columns 2 (l % 4) + {0, 1}.
__device__ inline void load_matrices(uint32_t* r, uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ inline void load_matrices(uint32_t* r, const void* row) {
  load_matrices(r, shared_address(row));
}
// The same of the transposed matrices.
__device__ inline void load_matrices_transposed(uint32_t* r, uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t* r, const void* row) {
  load_matrices_transposed(r, shared_address(row));
}
// The way back of load_matrices(), on 9.0 and later.
__device__ inline void store_matrices(const uint32_t (&r)[4], void* row) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%4], {%0, %1, %2, %3};" ::"r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(shared_address(row))
               : "memory");
}

}  // namespace ringtide::kernels::cuda
