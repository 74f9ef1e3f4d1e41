// What the kernels of a lookup hand each other: (rows) of each, in the scratch of a Lookup.
#pragma once

#include "kernels/cuda/lookup.h"

namespace ringtide::kernels::cuda {

// Units whose scores one block makes, and whose part of the softmax it sums.
constexpr int kScoreTile = 64;
// Units of which one block takes candidates: max_select of them, or all.
constexpr int kCandidateUnits = 256;

struct Candidate {
  uint32_t key = 0;  // in the order of relevance; 0: none
  int32_t unit = 0;
};

struct ChunkCopy {
  const std::byte* from;
  bf16* to;
};

struct LookupScratch {
  float* votes;   // (rows, heads, max_sealed): inner products
  float2* tiles;  // (rows, heads, tiles): greatest inner product, and sum of the softmax's terms
  Candidate* candidates;  // (rows, blocks of kCandidateUnits, candidates of a block)
  uint32_t* keys;         // (rows, max_select): of the chosen, in the order of relevance
  ChunkCopy* copies;      // (rows, max_select)
  int32_t* copy_counts;   // (rows)
  int64_t floats = 0;

  LookupScratch(float* base, const Heads& shape, int64_t rows, int64_t max_sealed,
                int64_t max_select) {
    // Begins of 16 bytes, from a base that has them.
    const auto take = [&](int64_t n) {
      float* const at = base ? base + floats : nullptr;
      floats += (n + 3) / 4 * 4;
      return at;
    };
    const int64_t tile_count = (max_sealed + kScoreTile - 1) / kScoreTile;
    votes = take(rows * shape.heads * max_sealed);
    tiles = reinterpret_cast<float2*>(take(2 * rows * tile_count * shape.heads));
    const int64_t blocks = (max_sealed + kCandidateUnits - 1) / kCandidateUnits;
    candidates = reinterpret_cast<Candidate*>(
        take(2 * rows * blocks * (max_select < kCandidateUnits ? max_select : kCandidateUnits)));
    keys = reinterpret_cast<uint32_t*>(take(rows * max_select));
    copies = reinterpret_cast<ChunkCopy*>(take(4 * rows * max_select));
    copy_counts = reinterpret_cast<int32_t*>(take(rows));
  }
  __host__ __device__ int64_t first_candidate(const Lookup& a, int64_t row, int64_t block) const {
    const int64_t blocks = (a.max_sealed + kCandidateUnits - 1) / kCandidateUnits;
    return (row * blocks + block) *
           (a.max_select < kCandidateUnits ? a.max_select : kCandidateUnits);
  }
  explicit LookupScratch(const Lookup& a)
      : LookupScratch(a.scratch, a.shape, a.rows, a.max_sealed, a.max_select) {}
};

}  // namespace ringtide::kernels::cuda
