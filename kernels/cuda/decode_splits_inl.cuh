// How a row's lists are cut into splits for decode_attention(), and what a split leaves for the
// second pass.
#pragma once

#include <algorithm>

#include "kernels/cuda/attention.h"

namespace ringtide::kernels::cuda {

constexpr int kMaxBlocks = 64;  // of a list, in one split
constexpr int kMinBlocks = 2;
// Wanted over the KV heads of a row: one thread block on each of an H100's multiprocessors.
constexpr int kSplits = 132;
constexpr float kLog2e = 1.4426950408889634f;

__host__ __device__ inline int splits_wanted(int kv_heads) {
  return kSplits / kv_heads > 1 ? kSplits / kv_heads : 1;
}
struct ListCounts {
  int near, far, units;
  __device__ int past() const { return near + far; }
};
__device__ inline int count_of(const KvList& list) { return list.refs ? *list.count : 0; }
__device__ inline ListCounts counts_of(const Lists& lists) {
  return {count_of(lists.near), count_of(lists.far), count_of(lists.units)};
}

// Blocks in one of so many splits, of `count` in all.
__host__ __device__ inline int split_blocks(int count, int wanted) {
  const int blocks = (count + wanted - 1) / wanted;
  return blocks < kMinBlocks ? kMinBlocks : blocks > kMaxBlocks ? kMaxBlocks : blocks;
}
// Near and far blocks first, in splits of their own: units may come later than these. So that little
// is left to do then, units have half of the splits as far as that makes theirs smaller.
struct Splits {
  int past_blocks, past;  // of a split; splits
  int unit_blocks, units;
  __device__ Splits(const ListCounts& counts, int kv_heads) {
    const int wanted = splits_wanted(kv_heads), half = max(1, wanted / 2);
    unit_blocks = split_blocks(counts.units, half);
    units = (counts.units + unit_blocks - 1) / unit_blocks;
    past_blocks = split_blocks(counts.past(), max(half, wanted - units));
    past = (counts.past() + past_blocks - 1) / past_blocks;
  }
  __device__ int all() const { return past + units; }
};
// Of lists of at most so many blocks in all: a bound of the number of splits.
inline int max_splits(int max_past, int max_units, int kv_heads) {
  const auto most = [](int count, int wanted) {
    const int fine = (count + kMinBlocks - 1) / kMinBlocks;
    const int coarse = (count + kMaxBlocks - 1) / kMaxBlocks;
    return std::min(fine, std::max(wanted, coarse));
  };
  const int wanted = splits_wanted(kv_heads);
  return std::max(1, most(max_past, wanted) + most(max_units, std::max(1, wanted / 2)));
}

// Partial results in scratch: o (rows, heads, splits, Dim), not divided by its sum; then the
// greatest logit and the sum (rows, heads, splits, 2). Logits are in units of log 2.
struct Partials {
  float* o;
  float2* stats;
};

// The second pass: o and lse from the splits'. Must follow the first at once.
void merge_splits(const DecodeAttention& a, const Partials& partials, int splits,
                  cudaStream_t stream);

}  // namespace ringtide::kernels::cuda
