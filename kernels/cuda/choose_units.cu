// A lookup's choice, in three kernels: inner products of the query with every unit's representatives,
// read once; relevance, which needs every head's softmax, and each block's best units as candidates;
// the best of those.
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/lookup_scratch.h"
#include "kernels/cuda/mma_inl.cuh"
#include "kernels/cuda/reduce_inl.cuh"
#include "kernels/cuda/vector_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kScoreWarps = 8;
constexpr int kScoreThreads = kScoreWarps * 32;
constexpr int kChooseThreads = 1024;

__device__ float softmax_scale(const Lookup& a) {
  return a.scale > 0 ? a.scale : rsqrtf(static_cast<float>(a.shape.head_dim));
}
// Whether the row has more candidates than it wants.
__device__ bool has_choice(const Memory& m) { return m.sealed - m.first > m.select; }
__device__ int candidates_of_block(const Lookup& a) { return min(a.max_select, kCandidateUnits); }

// Blocks: (tiles of kScoreTile units, heads / kScoreWarps, rows). A warp has one head: the units
// are the rows of the tensor cores' product, 16 at a time, and every column of the other side is
// the query. A thread reads 8 elements of a row at once and hands them over as two products want
// them, 4 each: any order of elements will do that is the query's as well.
template <int Dim>
__global__ void __launch_bounds__(kScoreThreads, Dim <= 128 ? 2 : 1)
    score_units(const Lookup a, const LookupScratch scratch) {
  constexpr int kParts = Dim / 32;  // of a head: 8 elements for each of 4 lanes
  constexpr int kSixteens = kScoreTile / 16;
  const int row = blockIdx.z, heads = a.shape.heads;
  const int lane = threadIdx.x % 32, quad = lane / 4, within = lane % 4;
  const int head = static_cast<int>(blockIdx.y * kScoreWarps + threadIdx.x / 32);
  const Memory m = a.memory[row];
  const int begin = static_cast<int>(blockIdx.x) * kScoreTile;
  if (head >= heads || !has_choice(m) || begin >= m.sealed) return after_previous();
  const int64_t unit_size = int64_t{heads} * Dim;
  const int64_t from = int64_t{head} * Dim + within * 8;
  static_assert(kIndexGroup % kScoreTile == 0 && kScoreTile % 32 == 0);
  const bf16* const group = m.groups[begin / kIndexGroup] +
                            (int64_t{a.layer} * kIndexGroup + begin % kIndexGroup) * unit_size;
  __builtin_assume(__isGlobal(group));
  // Of units quad, and 8 on, of a sixteen: one is multiplied while the next is on its way.
  Bf16s<8> low[2][kParts], high[2][kParts];
  const auto load = [&](int sixteen) {
    const int unit = sixteen * 16 + quad;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      low[sixteen % 2][i] = high[sixteen % 2][i] = {};
      if (begin + unit < m.sealed)
        low[sixteen % 2][i] = load_bf16<8>(group + unit * unit_size + from + i * 32);
      if (begin + unit + 8 < m.sealed)
        high[sixteen % 2][i] = load_bf16<8>(group + (unit + 8) * unit_size + from + i * 32);
    }
  };
  // Representatives are older than the query: the first are on their way when it comes.
  load(0);
  load(1);
  after_previous();
  Bf16s<8> query[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) query[i] = load_bf16<8>(a.q + row * unit_size + from + i * 32);
  float mine[kScoreTile / 32] = {};  // of units lane, lane + 32, ...
#pragma unroll
  for (int sixteen = 0; sixteen < kSixteens; ++sixteen) {
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
#pragma unroll
      for (int j = 0; j < 4; j += 2) {
        const Bf16s<8>&one = low[sixteen % 2][i], &two = high[sixteen % 2][i];
        const uint32_t units[4] = {one.words[j], two.words[j], one.words[j + 1], two.words[j + 1]};
        mma(sums, units, query[i].words[j], query[i].words[j + 1]);
      }
    }
    if (sixteen + 2 < kSixteens) load(sixteen + 2);
    // Every lane of a quad has units quad and quad + 8; lane l is to have unit l of 32.
    const float one = __shfl_sync(kAllLanes, sums[0], lane % 8 * 4);
    const float two = __shfl_sync(kAllLanes, sums[2], lane % 8 * 4);
    if (lane / 16 == sixteen % 2) mine[sixteen / 2] = lane / 8 % 2 ? two : one;
  }
  float* const votes = scratch.votes + (int64_t{row} * heads + head) * a.max_sealed + begin;
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < kScoreTile / 32; ++i) {
    const int unit = begin + i * 32 + lane;
    if (unit < m.sealed) votes[i * 32 + lane] = mine[i];
    if (unit < m.first || unit >= m.sealed) mine[i] = -INFINITY;
    most = fmaxf(most, mine[i]);
  }
  if (a.vote == Vote::Sum) return;
  most = warp_max(most);
  const float top = most == -INFINITY ? 0.0f : most;  // none: terms are 0
  const float scale = softmax_scale(a);
  float terms = 0;
#pragma unroll
  for (const float x : mine) terms += expf((x - top) * scale);
  terms = warp_sum(terms);
  if (lane == 0) {
    const int64_t tiles = (int64_t{a.max_sealed} + kScoreTile - 1) / kScoreTile;
    scratch.tiles[(int64_t{row} * heads + head) * tiles + blockIdx.x] = make_float2(most, terms);
  }
}

// Keys in the order of floats: NaN, which is below all, has 1; 0 is no unit's.
__device__ uint32_t ordered(float x) {
  if (isnan(x)) return 1;
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Blocks: (kCandidateUnits units, rows), a thread a unit. The block's candidates are its `select`
// best, in order of units.
__global__ void __launch_bounds__(kCandidateUnits)
    sum_votes(const Lookup a, const LookupScratch scratch) {
  extern __shared__ float2 softmax[];  // (heads): greatest, 1 / sum
  __shared__ __align__(16) uint32_t keys[kCandidateUnits];
  __shared__ int warp_counts[kCandidateUnits / 32];
  const int row = blockIdx.y, heads = a.shape.heads;
  const Memory m = a.memory[row];
  const int begin = static_cast<int>(blockIdx.x) * kCandidateUnits;
  after_previous();
  if (!has_choice(m) || begin >= m.sealed) return;
  const float scale = softmax_scale(a);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int unit = begin + static_cast<int>(threadIdx.x);
  const bool eligible = unit >= m.first && unit < m.sealed;
  const float* const votes = scratch.votes + int64_t{row} * heads * a.max_sealed + unit;
  // Inner products of the first heads come while the softmax is worked out.
  constexpr int kFirstHeads = 32;
  float of_head[kFirstHeads];
#pragma unroll
  for (int h = 0; h < kFirstHeads; ++h)
    of_head[h] = eligible && h < heads ? votes[int64_t{h} * a.max_sealed] : 0;
  if (a.vote == Vote::Softmax) {
    const int tiles = (m.sealed + kScoreTile - 1) / kScoreTile;
    const int64_t row_tiles = (int64_t{a.max_sealed} + kScoreTile - 1) / kScoreTile;
    const float2* const all = scratch.tiles + row * row_tiles * heads;
    // 8 lanes a head, each with kAtOnce tiles on their way.
    constexpr int kAtOnce = 16;
    for (int base = 0; base < heads; base += kCandidateUnits / 8) {
      const int h = base + static_cast<int>(threadIdx.x) / 8;
      const float2* const of = all + min(h, heads - 1) * row_tiles;
      float most = -INFINITY, sum = 0;
      for (int t = lane % 8; t < tiles; t += 8 * kAtOnce) {
        float2 some[kAtOnce];
        float here = most;
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          some[i] = t + 8 * i < tiles ? of[t + 8 * i] : make_float2(-INFINITY, 0);
#pragma unroll
        for (const float2 tile : some) here = fmaxf(here, tile.x);
        if (here == -INFINITY) continue;
        sum *= expf((most - here) * scale);
#pragma unroll
        for (const float2 tile : some) sum += tile.y * expf((tile.x - here) * scale);
        most = here;
      }
      const float of_all = warp_max<8>(most);
      sum = warp_sum<8>(most == -INFINITY ? 0.0f : sum * expf((most - of_all) * scale));
      if (lane % 8 == 0 && h < heads) softmax[h] = make_float2(of_all, 1.0f / sum);
    }
    __syncthreads();
  }
  uint32_t key = 0;
  if (eligible) {
    float relevance = 0;
    const auto add = [&](int h, float x) {
      relevance += a.vote == Vote::Sum ? x : expf((x - softmax[h].x) * scale) * softmax[h].y;
    };
#pragma unroll
    for (int h = 0; h < kFirstHeads; ++h)
      if (h < heads) add(h, of_head[h]);
#pragma unroll 8
    for (int h = kFirstHeads; h < heads; ++h) add(h, votes[int64_t{h} * a.max_sealed]);
    key = ordered(relevance);
  }
  keys[threadIdx.x] = key;
  __syncthreads();
  int better = 0;
#pragma unroll 4
  for (int i = 0; i < kCandidateUnits; i += 4) {
    const uint4 others = *reinterpret_cast<const uint4*>(keys + i);
    const int me = static_cast<int>(threadIdx.x);
    better += others.x > key || (others.x == key && i < me);
    better += others.y > key || (others.y == key && i + 1 < me);
    better += others.z > key || (others.z == key && i + 2 < me);
    better += others.w > key || (others.w == key && i + 3 < me);
  }
  const int wanted = candidates_of_block(a);
  const bool candidate = key != 0 && better < wanted;
  const unsigned lanes = __ballot_sync(kAllLanes, candidate);
  if (lane == 0) warp_counts[warp] = __popc(lanes);
  __syncthreads();
  int rank = __popc(lanes & ((1u << lane) - 1)), count = 0;
  for (int w = 0; w < kCandidateUnits / 32; ++w) {
    if (w < warp) rank += warp_counts[w];
    count += warp_counts[w];
  }
  Candidate* const to = scratch.candidates + scratch.first_candidate(a, row, blockIdx.x);
  if (candidate) to[rank] = {key, unit};
  for (int i = count + static_cast<int>(threadIdx.x); i < wanted; i += kCandidateUnits)
    to[i] = {0, 0};
}

// One block a row: the `select` best candidates, in order of units.
__global__ void __launch_bounds__(kChooseThreads)
    choose(const Lookup a, const LookupScratch scratch) {
  __shared__ int counts[32];  // of keys, for each bit
  __shared__ uint32_t warp_counts[kChooseThreads / 32];
  const int row = blockIdx.x, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const Memory m = a.memory[row];
  after_previous();
  int32_t* const chosen = a.chosen + int64_t{row} * a.max_select;
  uint32_t* const keys = scratch.keys + int64_t{row} * a.max_select;
  const int eligible = max(0, m.sealed - m.first);
  const int wanted = min(min(m.select, a.max_select), eligible);
  for (int i = wanted + tid; i < a.max_select; i += kChooseThreads) chosen[i] = -1;
  if (!has_choice(m)) {
    for (int i = tid; i < wanted; i += kChooseThreads) {
      chosen[i] = m.first + i;
      keys[i] = 0;
    }
    return;
  }
  if (wanted <= 0) return;
  const Candidate* const candidates = scratch.candidates + scratch.first_candidate(a, row, 0);
  const int n = (m.sealed + kCandidateUnits - 1) / kCandidateUnits * candidates_of_block(a);
  if (tid < 32) counts[tid] = 0;
  const Candidate mine = tid < n ? candidates[tid] : Candidate{};
  __syncthreads();

  // The highest key that `wanted` candidates reach, bit by bit.
  uint32_t edge = 0;
  int at_least = 0;
  for (int bit = 31; bit >= 0 && at_least != wanted; --bit) {
    const uint32_t next = edge | 1u << bit;
    int count;
    if (n <= kChooseThreads) {
      count = __syncthreads_count(mine.key >= next);
    } else {
      int some = mine.key >= next;
      for (int i = tid + kChooseThreads; i < n; i += kChooseThreads)
        some += candidates[i].key >= next;
      some = __reduce_add_sync(kAllLanes, some);
      if (lane == 0 && some) atomicAdd(&counts[bit], some);
      __syncthreads();
      count = counts[bit];
    }
    if (count >= wanted) {
      edge = next;
      at_least = count;
    }
  }
  // Those above the edge, and as many at the edge as are still wanted, the lower first.
  const bool exact = at_least == wanted;
  uint32_t above_before = 0, edge_before = 0;
  int above_all = 0;
  if (!exact) {
    __syncthreads();
    if (tid == 0) counts[0] = 0;
    __syncthreads();
    int above = mine.key > edge;
    for (int i = tid + kChooseThreads; i < n; i += kChooseThreads)
      above += candidates[i].key > edge;
    above = __reduce_add_sync(kAllLanes, above);
    if (lane == 0 && above) atomicAdd(&counts[0], above);
    __syncthreads();
    above_all = counts[0];
  }
  const uint32_t at_edge = exact ? static_cast<uint32_t>(wanted) : wanted - above_all;
  for (int start = 0; start < n; start += kChooseThreads) {
    const int i = start + tid;
    const Candidate c = start == 0 ? mine : i < n ? candidates[i] : Candidate{};
    const bool above = !exact && c.key > edge;
    const bool same = exact ? c.key >= edge : c.key == edge;
    const unsigned above_lanes = __ballot_sync(kAllLanes, above);
    const unsigned same_lanes = __ballot_sync(kAllLanes, same);
    __syncthreads();
    if (lane == 0) warp_counts[warp] = __popc(above_lanes) << 16 | __popc(same_lanes);
    __syncthreads();
    const uint32_t theirs = warp_counts[lane];  // both counts of this round in one number
    const uint32_t all = __reduce_add_sync(kAllLanes, theirs);
    const uint32_t before = __reduce_add_sync(kAllLanes, lane < warp ? theirs : 0);
    const unsigned below = (1u << lane) - 1;
    const uint32_t above_rank = above_before + (before >> 16) + __popc(above_lanes & below);
    const uint32_t edge_rank = edge_before + (before & 0xffffu) + __popc(same_lanes & below);
    if (above || (same && edge_rank < at_edge)) {
      const uint32_t at = above_rank + min(edge_rank, at_edge);
      chosen[at] = c.unit;
      keys[at] = c.key;
    }
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
    const dim3 tiles((a.max_sealed + kScoreTile - 1) / kScoreTile,
                     (a.shape.heads + kScoreWarps - 1) / kScoreWarps, a.rows);
    by_head_dim(a.shape.head_dim, [&](auto dim) {
      launch("choose_units", score_units<dim()>, tiles, kScoreThreads, 0, stream, a, scratch);
    });
    const dim3 units((a.max_sealed + kCandidateUnits - 1) / kCandidateUnits, a.rows);
    launch("choose_units", sum_votes, units, kCandidateUnits, a.shape.heads * sizeof(float2),
           stream, a, scratch);
  }
  launch("choose_units", choose, a.rows, kChooseThreads, 0, stream, a, scratch);
}

}  // namespace ringtide::kernels::cuda
