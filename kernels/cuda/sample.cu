#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kPenaltyThreads = 256;
constexpr int kHighestThreads = 512;
constexpr int kParts = 32;  // of a row, when its highest logit is searched
constexpr int kDrawThreads = kEdgeThreads;
constexpr int kDrawWarps = kDrawThreads / 32;
constexpr int kMassBits = 41;
constexpr int32_t kMaxVocabulary = 1 << 18;

struct Best {
  float logit;
  int32_t id;
};
__device__ Best better(const Best& a, const Best& b) {
  return b.logit > a.logit || (b.logit == a.logit && b.id < a.id) ? b : a;
}
__device__ Best warp_best(Best x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    x = better(x,
               {__shfl_xor_sync(kAllLanes, x.logit, step), __shfl_xor_sync(kAllLanes, x.id, step)});
  return x;
}

__global__ void penalise(float* logits, int32_t vocabulary, const SampleRow* rows) {
  after_previous();
  const SampleRow& row = rows[blockIdx.x];
  const float penalty = row.repetition_penalty;
  if (penalty == 1.0f || !(penalty > 0.0f) || isinf(penalty)) return;
  for (int i = threadIdx.x; i < row.recent_count; i += kPenaltyThreads) {
    const int32_t id = row.recent[i];
    bool first = id >= 0 && id < vocabulary;
    for (int j = 0; first && j < i; ++j) first = row.recent[j] != id;
    if (!first) continue;
    float& logit = logits[int64_t{blockIdx.x} * vocabulary + id];
    logit = logit > 0.0f ? logit / penalty : logit * penalty;
  }
}

// Blocks: (parts, rows).
__global__ void __launch_bounds__(kHighestThreads)
    highest_of_part(const float* logits, int32_t vocabulary, Best* best) {
  __shared__ Best warps[kHighestThreads / 32];
  after_previous();
  const int part = (vocabulary + kParts - 1) / kParts;
  const int begin = static_cast<int>(blockIdx.x) * part, end = min(begin + part, vocabulary);
  logits += int64_t{blockIdx.y} * vocabulary;
  Best mine{-INFINITY, 0x7fffffff};
#pragma unroll 4
  for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kHighestThreads) {
    if (logits[i] > mine.logit) mine = {logits[i], i};
  }
  mine = warp_best(mine);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  mine = warp_best(threadIdx.x < kHighestThreads / 32 ? warps[threadIdx.x]
                                                      : Best{-INFINITY, 0x7fffffff});
  if (threadIdx.x == 0) best[blockIdx.y * kParts + blockIdx.x] = mine;
}

struct Weights {
  float highest;
  double factor;  // log2(e) / temperature

  __device__ bool candidate(float logit) const {
    return logit > -INFINITY && (logit == highest || isfinite(highest));
  }
  __device__ float of(float logit) const {
    if (logit == highest) return 1.0f;
    const double x = (static_cast<double>(logit) - highest) * factor;
    if (!(x > -64.0)) return 0.0f;
    const double whole = rint(x);
    return ldexpf(exp2f(static_cast<float>(x - whole)), static_cast<int>(whole));
  }
};
__device__ uint64_t mass(float weight) {
  return static_cast<uint64_t>(weight * static_cast<float>(1ull << kMassBits));
}
__device__ float from_ordered(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Sum over the block, in shared memory that is zeroed here; every thread gets it.
__device__ uint64_t block_total(uint64_t x, unsigned long long& total) {
  __syncthreads();
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  if (threadIdx.x % 32 == 0) atomicAdd(&total, static_cast<unsigned long long>(x));
  __syncthreads();
  return total;
}

// One block a row. What stays is described by an edge: all keys above it, and the first `ties` by
// id of those at it.
__global__ void __launch_bounds__(kDrawThreads)
    draw(const float* logits, const int n, const SampleRow* rows, const Best* parts,
         float* all_weights, int32_t* token) {
  __shared__ EdgeMemory<3> memory;
  __shared__ unsigned long long total_memory;
  __shared__ unsigned long long warp_mass[kDrawWarps];
  __shared__ uint32_t warp_ties[kDrawWarps];
  after_previous();
  const SampleRow row = rows[blockIdx.x];
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  logits += int64_t{blockIdx.x} * n;
  float* const weights = all_weights + int64_t{blockIdx.x} * n;

  const Best best = warp_best(parts[blockIdx.x * kParts + lane]);
  if (!(row.temperature > 0.0f) || best.logit == -INFINITY) {
    if (tid == 0) token[blockIdx.x] = best.logit == -INFINITY ? 0 : best.id;
    return;
  }
  const Weights weigh{best.logit, 1.4426950408889634 / static_cast<double>(row.temperature)};
  const auto key = [&](int i) { return ordered(logits[i]); };

  uint32_t edge = 0, ties = 0;
  if (row.top_k > 0 && row.top_k < n) {
    const auto one = [&](int i) { return uint64_t{weigh.candidate(logits[i])}; };
    uint64_t mine = 0;
#pragma unroll 4
    for (int i = tid; i < n; i += kDrawThreads) mine += one(i);
    if (static_cast<uint64_t>(row.top_k) < block_total(mine, total_memory)) {
      const Edge top = find_edge(n, row.top_k, memory, key, one);
      edge = top.key;
      ties = row.top_k - static_cast<uint32_t>(top.before);
    }
  }

  // What min-p removes weighs nothing.
  const double least = row.min_p > 0.0f ? fmin(static_cast<double>(row.min_p), 1.0) : 0.0;
  const auto weight_of = [&](float logit) {
    const float w = weigh.candidate(logit) ? weigh.of(logit) : 0.0f;
    return w >= least ? w : 0.0f;
  };
  uint64_t mine = 0;
#pragma unroll 4
  for (int i = tid; i < n; i += kDrawThreads) {
    const float logit = logits[i];
    const float w = ordered(logit) >= edge ? weight_of(logit) : 0.0f;
    weights[i] = w;
    if (ordered(logit) > edge) mine += mass(w);
  }
  uint64_t above = block_total(mine, total_memory);
  uint64_t edge_mass = edge ? mass(weight_of(from_ordered(edge))) : 0;

  if (row.top_p < 1.0f) {
    const uint64_t total = above + ties * edge_mass;
    const double share = ceil(static_cast<double>(row.top_p) * static_cast<double>(total));
    const uint64_t wanted = share < 1.0 ? 1 : min(static_cast<uint64_t>(share), total);
    if (above >= wanted) {
      const auto mass_above = [&](int i) { return key(i) > edge ? mass(weights[i]) : 0; };
      const Edge top = find_edge(n, wanted, memory, key, mass_above);
      edge = top.key;
      above = top.before;
      edge_mass = mass(weight_of(from_ordered(edge)));
    }
    // The fewest at the edge that make up for the rest.
    const uint64_t rest = wanted - above;
    const uint64_t fewest = edge_mass ? (rest + edge_mass - 1) / edge_mass : 0;
    ties = static_cast<uint32_t>(
        above + ties * edge_mass >= wanted && ties > 0 && fewest > ties ? ties : fewest);
  }

  // Each warp has a range of ids; the number drawn falls into one of them.
  const uint64_t total = above + ties * edge_mass;
  const uint64_t drawn =
      min(static_cast<uint64_t>(row.uniform * static_cast<double>(total)), total - 1);
  const int range = (n + kDrawWarps - 1) / kDrawWarps;
  const int begin = warp * range, end = min(begin + range, n);
  uint64_t sum = 0;
  uint32_t same = 0;
#pragma unroll 4
  for (int i = begin + lane; i < end; i += 32) {
    const uint32_t k = key(i);
    if (k > edge) sum += mass(weights[i]);
    same += edge && k == edge;
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  same = __reduce_add_sync(kAllLanes, same);
  if (lane == 0) {
    warp_mass[warp] = sum;
    warp_ties[warp] = same;
  }
  __syncthreads();
  uint64_t before = 0;
  uint32_t ties_before = 0;
  const auto kept = [&](uint32_t from, uint32_t count) {
    return from >= ties ? 0 : min(count, ties - from);
  };
  for (int w = 0; w < warp; ++w) {
    before += warp_mass[w] + kept(ties_before, warp_ties[w]) * edge_mass;
    ties_before += warp_ties[w];
  }
  const uint64_t here = warp_mass[warp] + kept(ties_before, warp_ties[warp]) * edge_mass;
  if (drawn < before || drawn >= before + here) return;
  for (int start = begin; start < end; start += 32) {
    const int i = start + lane;
    const uint32_t k = i < end ? key(i) : 0;
    const bool at_edge = i < end && edge && k == edge;
    const unsigned edge_lanes = __ballot_sync(kAllLanes, at_edge);
    const uint32_t rank = ties_before + __popc(edge_lanes & ((1u << lane) - 1));
    uint64_t x = 0;
    if (i < end && k > edge) x = mass(weights[i]);
    if (at_edge && rank < ties) x = edge_mass;
    uint64_t through = x;
    for (int step = 1; step < 32; step *= 2) {
      const uint64_t other = __shfl_up_sync(kAllLanes, through, step);
      if (lane >= step) through += other;
    }
    if (x != 0 && drawn >= before + through - x && drawn < before + through) token[blockIdx.x] = i;
    before += __shfl_sync(kAllLanes, through, 31);
    ties_before += __popc(edge_lanes);
    if (drawn < before) return;
  }
}

}  // namespace

int64_t sample_scratch(int32_t row_count, int32_t vocabulary) {
  return int64_t{row_count} * (2 * kParts + int64_t{vocabulary});
}

void sample(float* logits, int32_t row_count, int32_t vocabulary, const SampleRow* rows,
            int32_t* token, float* scratch, cudaStream_t stream) {
  if (row_count == 0) return;
  if (vocabulary < 1 || vocabulary > kMaxVocabulary)
    throw std::invalid_argument("sample: a vocabulary of " + std::to_string(vocabulary) +
                                "; at most " + std::to_string(kMaxVocabulary));
  auto* const best = reinterpret_cast<Best*>(scratch);
  float* const weights = scratch + int64_t{row_count} * kParts * 2;
  launch("sample", penalise, row_count, kPenaltyThreads, 0, stream, logits, vocabulary, rows);
  launch("sample", highest_of_part, dim3(kParts, row_count), kHighestThreads, 0, stream, logits,
         vocabulary, best);
  launch("sample", draw, row_count, kDrawThreads, 0, stream, logits, vocabulary, rows, best,
         weights, token);
}

}  // namespace ringtide::kernels::cuda
