// Where keys and values lie in GPU memory, and how lists of them are handed to kernels.
//
// All keys and values of a device lie in one allocation, the arena, seen as rows of head_dim bf16
// values. A plane is the keys (or the values) of `unit` consecutive tokens of one layer: (kv_heads,
// unit, head_dim), contiguous, so it is kv_heads * unit rows. A block of keys and values names two
// planes by their first rows; they need not be neighbours. One tensor map covers the arena, so a
// tile of keys is one bulk copy wherever its plane lies.
//
// Keys lie as attention wants them: rotated to their positions for the near part, unrotated for a
// far part at one constant distance. Kernels that read a list never rotate.
#pragma once

#include <cstdint>
#include <limits>

// Whoever launches or computes has CUDA's headers; who only hands pointers on (kernels/gpu.h) needs
// the names alone.
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define RINGTIDE_HOST_DEVICE __host__ __device__
#else
struct __nv_bfloat16;
struct CUstream_st;
using cudaStream_t = CUstream_st*;
#define RINGTIDE_HOST_DEVICE
#endif

namespace ringtide::kernels::cuda {

using bf16 = __nv_bfloat16;

// Query head h reads KV head h / (heads / kv_heads).
struct Heads {
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // 64, 128 or 256
  RINGTIDE_HOST_DEVICE int group() const { return heads / kv_heads; }
};

// The arena of one device.
struct Arena {
  bf16* base = nullptr;  // 1024-byte aligned
  int64_t rows = 0;      // of head_dim values
};

// `unit` consecutive tokens of one layer, or some of them.
struct KvRef {
  int32_t k_row = 0, v_row = 0;  // arena rows of token 0 of KV head 0; head g: + g * unit
  int32_t begin = 0, end = 0;    // tokens [begin, end) take part; begin == end: nothing does
  int64_t position = 0;          // of token 0, for the band
};

// A list of blocks in device memory. The count is in device memory too, so that a captured graph can
// be replayed over a list that changed.
struct KvList {
  const KvRef* refs = nullptr;     // device, (max_count); null: an empty list
  const int32_t* count = nullptr;  // device, one number, at most max_count
  int32_t max_count = 0;           // bounds the grid
  int32_t row_offset = 0;          // added to k_row and v_row: a layer's place in a page
};

// A query at position p sees a key at position j where nearest <= p - j <= farthest.
struct Band {
  int64_t nearest = 0;
  int64_t farthest = std::numeric_limits<int64_t>::max();
};

}  // namespace ringtide::kernels::cuda
