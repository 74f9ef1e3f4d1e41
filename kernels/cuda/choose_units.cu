// A lookup's choice, in three kernels: inner products of the query with every unit's
// representatives, read once; relevance, which needs every head's softmax; the best.
#include <algorithm>

#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/lookup_scratch.h"
#include "kernels/cuda/vector.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kScoreThreads = 512;
constexpr int kRelevanceThreads = 256;
constexpr int kChooseThreads = kEdgeThreads;

// Whether the row has more candidates than it wants.
__device__ bool has_choice(const Memory& m) { return m.sealed - m.first > m.select; }

// Blocks: (tiles of kScoreTile units, rows). A thread has 8 elements of the query and meets them in
// one unit after another.
template <int Dim>
__global__ void __launch_bounds__(kScoreThreads)
    score_units(const Lookup a, const LookupScratch scratch) {
  constexpr int kLanes = Dim / 8;  // of a head
  constexpr int kStep = 8;         // units on their way at once; at most kLanes
  after_previous();
  const int row = blockIdx.y;
  const Memory m = a.memory[row];
  const int begin = static_cast<int>(blockIdx.x) * kScoreTile;
  if (!has_choice(m) || begin >= m.sealed) return;
  const int heads = a.shape.heads, chunks = heads * kLanes;
  const int within = static_cast<int>(threadIdx.x) % kLanes;
  const float scale = rsqrtf(static_cast<float>(Dim));
  static_assert(kIndexGroup % kScoreTile == 0);
  const bf16* const group = m.groups[begin / kIndexGroup] +
                            (int64_t{a.layer} * kIndexGroup + begin % kIndexGroup) * heads * Dim;
  // Whole warps: all lanes take part in the sums.
  for (int chunk = threadIdx.x; chunk / 32 * 32 < chunks; chunk += static_cast<int>(blockDim.x)) {
    const bool valid = chunk < chunks;
    const int head = chunk / kLanes;
    float query[8] = {};
    if (valid) load_floats(a.q + int64_t{row} * heads * Dim + chunk * 8, query);
    float mine[kScoreTile / kStep];  // of unit `within` of each step
#pragma unroll
    for (int step = 0; step < kScoreTile / kStep; ++step) {
      Bf16s<8> units[kStep] = {};
#pragma unroll
      for (int u = 0; u < kStep; ++u) {
        const int unit = step * kStep + u;
        if (valid && begin + unit < m.sealed)
          units[u] = load_bf16<8>(group + int64_t{unit} * heads * Dim + chunk * 8);
      }
#pragma unroll
      for (int u = 0; u < kStep; ++u) {
        float key[8], sum = 0;
        to_floats(units[u], key);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = fmaf(key[i], query[i], sum);
        sum = warp_sum<kLanes>(sum);
        if (within == u) mine[step] = sum;
      }
    }
    // Lanes 0..7 of each head have its units.
    float most = -INFINITY;
#pragma unroll
    for (int step = 0; step < kScoreTile / kStep; ++step) {
      const int unit = begin + step * kStep + within;
      if (valid && within < kStep && unit < m.sealed) {
        scratch.votes[(int64_t{row} * heads + head) * a.max_sealed + unit] = mine[step];
      }
      const bool counts = within < kStep && unit >= m.first && unit < m.sealed;
      mine[step] = counts ? mine[step] : -INFINITY;
      most = fmaxf(most, mine[step]);
    }
    if (a.vote == Vote::Sum) continue;
    most = warp_max<8>(most);
    float terms = 0;
#pragma unroll
    for (const float x : mine) terms += x == -INFINITY ? 0.0f : expf((x - most) * scale);
    terms = warp_sum<8>(terms);
    if (valid && within == 0) {
      const int64_t tiles = (int64_t{a.max_sealed} + kScoreTile - 1) / kScoreTile;
      scratch.tiles[(int64_t{row} * heads + head) * tiles + blockIdx.x] = make_float2(most, terms);
    }
  }
}

// Blocks: (units, rows), a thread a unit.
__global__ void __launch_bounds__(kRelevanceThreads)
    sum_votes(const Lookup a, const LookupScratch scratch) {
  extern __shared__ float2 softmax[];  // (heads): greatest, 1 / sum
  after_previous();
  const int row = blockIdx.y, heads = a.shape.heads;
  const Memory m = a.memory[row];
  const int begin = static_cast<int>(blockIdx.x) * kRelevanceThreads;
  if (!has_choice(m) || begin >= m.sealed) return;
  const float scale = rsqrtf(static_cast<float>(a.shape.head_dim));
  if (a.vote == Vote::Softmax) {
    const int tiles = (m.sealed + kScoreTile - 1) / kScoreTile;
    const int64_t row_tiles = (int64_t{a.max_sealed} + kScoreTile - 1) / kScoreTile;
    const float2* const all = scratch.tiles + row * row_tiles * heads;
    const int lane = threadIdx.x % 32;
    for (int h = threadIdx.x / 32; h < heads; h += kRelevanceThreads / 32) {
      const float2* const of = all + h * row_tiles;
      float most = -INFINITY, sum = 0;
#pragma unroll 4
      for (int t = lane; t < tiles; t += 32) most = fmaxf(most, of[t].x);
      most = warp_max(most);
#pragma unroll 4
      for (int t = lane; t < tiles; t += 32) {
        const float2 tile = of[t];
        sum += tile.x == -INFINITY ? 0.0f : tile.y * expf((tile.x - most) * scale);
      }
      sum = warp_sum(sum);
      if (lane == 0) softmax[h] = make_float2(most, 1.0f / sum);
    }
    __syncthreads();
  }
  const int unit = begin + static_cast<int>(threadIdx.x);
  if (unit >= m.sealed) return;
  const float* const votes = scratch.votes + int64_t{row} * heads * a.max_sealed + unit;
  float relevance = 0;
#pragma unroll 8
  for (int h = 0; h < heads; ++h) {
    const float x = votes[int64_t{h} * a.max_sealed];
    relevance += a.vote == Vote::Sum ? x : expf((x - softmax[h].x) * scale) * softmax[h].y;
  }
  scratch.relevance[int64_t{row} * a.max_sealed + unit] = relevance;
}

// One block a row: the `select` most relevant, in order of units.
__global__ void __launch_bounds__(kChooseThreads)
    choose(const Lookup a, const LookupScratch scratch) {
  __shared__ EdgeMemory<1> memory;
  __shared__ uint32_t warp_counts[kChooseThreads / 32];
  after_previous();
  const int row = blockIdx.x, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const Memory m = a.memory[row];
  int32_t* const chosen = a.chosen + int64_t{row} * a.max_select;
  const int candidates = max(0, m.sealed - m.first);
  const int wanted = min(min(m.select, a.max_select), candidates);
  for (int i = wanted + tid; i < a.max_select; i += kChooseThreads) chosen[i] = -1;
  if (!has_choice(m)) {
    for (int i = tid; i < wanted; i += kChooseThreads) chosen[i] = m.first + i;
    return;
  }
  if (wanted <= 0) return;
  const float* const relevance = scratch.relevance + int64_t{row} * a.max_sealed + m.first;
  const auto key = [&](int i) { return ordered(relevance[i]); };
  const Edge edge = find_edge(candidates, static_cast<uint64_t>(wanted), memory, key,
                              [](int) { return uint64_t{1}; });
  // Those above the edge, and as many at the edge as are still wanted, the lower first.
  const uint32_t at_edge = static_cast<uint32_t>(wanted) - static_cast<uint32_t>(edge.before);
  uint32_t above_before = 0, edge_before = 0;
  for (int start = 0; start < candidates; start += kChooseThreads) {
    const int i = start + tid;
    const uint32_t k = i < candidates ? key(i) : 0;
    const bool above = i < candidates && k > edge.key, same = i < candidates && k == edge.key;
    const unsigned above_lanes = __ballot_sync(kAllLanes, above);
    const unsigned same_lanes = __ballot_sync(kAllLanes, same);
    __syncthreads();
    if (lane == 0) warp_counts[warp] = __popc(above_lanes) << 16 | __popc(same_lanes);
    __syncthreads();
    uint32_t all = 0, before = 0;  // both counts of this round in one number
    for (int w = 0; w < kChooseThreads / 32; ++w) {
      if (w < warp) before += warp_counts[w];
      all += warp_counts[w];
    }
    const unsigned below = (1u << lane) - 1;
    const uint32_t above_rank = above_before + (before >> 16) + __popc(above_lanes & below);
    const uint32_t edge_rank = edge_before + (before & 0xffffu) + __popc(same_lanes & below);
    if (above || (same && edge_rank < at_edge))
      chosen[above_rank + min(edge_rank, at_edge)] = m.first + i;
    above_before += all >> 16;
    edge_before += all & 0xffffu;
  }
}

}  // namespace

int64_t lookup_scratch(const Heads& shape, int32_t rows, int32_t max_sealed, int32_t max_select) {
  return LookupScratch(nullptr, shape, rows, max_sealed, max_select).floats;
}

void choose_units(const Lookup& a, cudaStream_t stream) {
  if (a.rows == 0 || a.max_select == 0) return;
  const LookupScratch scratch(a);
  if (a.max_sealed > 0) {
    const int chunks = a.shape.heads * a.shape.head_dim / 8;
    const int threads = std::min(kScoreThreads, (chunks + 31) / 32 * 32);
    const dim3 tiles((a.max_sealed + kScoreTile - 1) / kScoreTile, a.rows);
    by_head_dim(a.shape.head_dim, [&](auto dim) {
      launch("choose_units", score_units<dim()>, tiles, threads, 0, stream, a, scratch);
    });
    const dim3 units((a.max_sealed + kRelevanceThreads - 1) / kRelevanceThreads, a.rows);
    launch("choose_units", sum_votes, units, kRelevanceThreads, a.shape.heads * sizeof(float2),
           stream, a, scratch);
  }
  launch("choose_units", choose, a.rows, kChooseThreads, 0, stream, a, scratch);
}

}  // namespace ringtide::kernels::cuda
