// Four kernels: penalties; the highest logit; weights, and what lies in each of kBins ranges of
// them; then one block a row finds the range in which top-k or top-p ends, looks into that range
// alone, and draws.
#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/edge_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
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

// Ranges of weight, from the highest down, 16 an octave. Masses are in three limbs of 14 bits,
// added by themselves: no sum of 2^18 overflows, and no order of additions shows.
constexpr int kBins = 1024;
struct Bins {
  uint32_t count[kBins];
  uint32_t limbs[3][kBins];

  __device__ void add(int bin, uint32_t n, uint64_t mass) {
    atomicAdd(&count[bin], n);
    for (int i = 0; i < 3; ++i) {
      const uint32_t limb = static_cast<uint32_t>(mass >> (14 * i)) & ((1u << 14) - 1);
      if (limb) atomicAdd(&limbs[i][bin], limb);
    }
  }
  __device__ uint64_t mass(int bin) const {
    return limbs[0][bin] + (uint64_t{limbs[1][bin]} << 14) + (uint64_t{limbs[2][bin]} << 28);
  }
};

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

// Also clears the row's bins.
__global__ void penalise(float* logits, int32_t vocabulary, const SampleRow* rows, Bins* bins) {
  after_previous();
  auto* const words = reinterpret_cast<uint32_t*>(bins + blockIdx.x);
  for (int i = threadIdx.x; i < static_cast<int>(sizeof(Bins) / 4); i += kPenaltyThreads)
    words[i] = 0;
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

// How the candidates of a row are weighed.
struct Weights {
  float highest;
  double factor;  // log2(e) / temperature
  double least;   // weights below are nothing: min-p
  float bins;     // an octave's ranges, over the temperature

  __device__ Weights(const SampleRow& row, float highest)
      : highest(highest),
        factor(1.4426950408889634 / static_cast<double>(row.temperature)),
        least(row.min_p > 0.0f ? fmin(static_cast<double>(row.min_p), 1.0) : 0.0),
        bins(static_cast<float>(16 * factor)) {}

  __device__ bool candidate(float logit) const {
    return logit > -INFINITY && (logit == highest || isfinite(highest));
  }
  // Of a candidate.
  __device__ float of(float logit) const {
    if (logit == highest) return 1.0f;
    const double x = (static_cast<double>(logit) - highest) * factor;
    if (!(x > -64.0)) return 0.0f;
    const double whole = rint(x);
    const float w = ldexpf(exp2f(static_cast<float>(x - whole)), static_cast<int>(whole));
    return w >= least ? w : 0.0f;
  }
  // Never falls from a logit to a lower one.
  __device__ int bin(float logit) const {
    if (logit == highest) return 0;
    return min(kBins - 1, static_cast<int>((highest - logit) * bins));
  }
};
__device__ uint64_t mass(float weight) {
  return static_cast<uint64_t>(weight * static_cast<float>(1ull << kMassBits));
}
__device__ bool greedy(const SampleRow& row, const Best& best) {
  return !(row.temperature > 0.0f) || best.logit == -INFINITY;
}

// Blocks: (parts, rows). Weights of no candidates are 0.
__global__ void __launch_bounds__(kHighestThreads)
    weigh(const float* logits, const int32_t n, const SampleRow* rows, const Best* parts,
          float* weights, Bins* bins) {
  __shared__ Bins mine;
  after_previous();
  const int tid = threadIdx.x;
  const SampleRow& row = rows[blockIdx.y];
  const Best best = warp_best(parts[blockIdx.y * kParts + tid % 32]);
  if (greedy(row, best)) return;
  const Weights weigh(row, best.logit);
  for (int i = tid; i < static_cast<int>(sizeof(Bins) / 4); i += kHighestThreads)
    reinterpret_cast<uint32_t*>(&mine)[i] = 0;
  __syncthreads();
  const int part = (n + kParts - 1) / kParts;
  const int begin = static_cast<int>(blockIdx.x) * part, end = min(begin + part, n);
  const int64_t from = int64_t{blockIdx.y} * n;
  for (int i = begin + tid; i < end; i += kHighestThreads) {
    const float logit = logits[from + i];
    float w = 0;
    if (weigh.candidate(logit)) {
      w = weigh.of(logit);
      mine.add(weigh.bin(logit), 1, mass(w));
    }
    weights[from + i] = w;
  }
  __syncthreads();
  for (int i = tid; i < static_cast<int>(sizeof(Bins) / 4); i += kHighestThreads) {
    const uint32_t x = reinterpret_cast<const uint32_t*>(&mine)[i];
    if (x) atomicAdd(reinterpret_cast<uint32_t*>(bins + blockIdx.y) + i, x);
  }
}

struct Member {
  float logit, weight;
};

// One block a row. What stays is described by an edge: all keys above it, and the first `ties` by
// id of those at it. Edge 0: everything.
struct MemberKey {
  const Member* list;
  __device__ uint32_t operator()(int i) const { return ordered(list[i].logit); }
};

// One block a row. What stays is described by an edge: all keys above it, and the first `ties` by
// id of those at it. Edge 0: everything.
class Draw {
 public:
  struct Shared {
    EdgeMemory<3> edge;
    uint64_t warps[2][kDrawWarps];
    uint64_t sum;
    uint32_t members;
    struct {
      int bin;
      uint64_t before[2];
    } found;
  };

  __device__ Draw(Shared& shared, const float* logits, const float* weights, int n,
                  const Weights& weigh, const Bins& bins, Member* list)
      : s_(shared), logits_(logits), weights_(weights), n_(n), weigh_(weigh), list_(list) {
    in_bin_[kCount] = bins.count[threadIdx.x];
    in_bin_[kMass] = bins.mass(threadIdx.x);
    for (const int of : {kCount, kMass}) {
      const uint64_t through = sum_through(in_bin_[of]);
      if (lane() == 31) s_.warps[of][warp()] = through;
      __syncthreads();
      before_[of] = through - in_bin_[of];
      all_[of] = 0;
      for (int w = 0; w < kDrawWarps; ++w) {
        if (w < warp()) before_[of] += s_.warps[of][w];
        all_[of] += s_.warps[of][w];
      }
    }
    above_ = all_[kMass];
  }

  __device__ void keep_top_k(uint32_t k) {
    if (k >= all_[kCount]) return;
    const uint64_t rest = k - enter(kCount, k, kCount);
    const Edge edge =
        find_edge(size_, rest, s_.edge, MemberKey{list_}, [](int) { return uint64_t{1}; });
    cut(edge.key, s_.found.before[kMass]);
    ties_ = static_cast<uint32_t>(rest - edge.before);
    limited_ = true;
  }

  __device__ void keep_top_p(float top_p) {
    const uint64_t total = above_ + ties_ * edge_mass_;
    const double share = ceil(static_cast<double>(top_p) * static_cast<double>(total));
    const uint64_t wanted = share < 1.0 ? 1 : min(static_cast<uint64_t>(share), total);
    if (above_ >= wanted) {
      // Above the edge that there is: in the same range of weights or in a higher one.
      const uint32_t old = edge_;
      uint64_t before = s_.found.before[kMass];
      if (!limited_ || before >= wanted) before = enter(kMass, wanted, kMass);
      const MemberKey k{list_};
      const auto masses = [&](int i) { return k(i) > old ? mass(list_[i].weight) : 0; };
      const Edge edge = find_edge(size_, wanted - before, s_.edge, k, masses);
      cut(edge.key, before);
    }
    // The fewest at the edge that make up for the rest; there are as many, by `total`.
    ties_ = edge_mass_ ? static_cast<uint32_t>((wanted - above_ + edge_mass_ - 1) / edge_mass_) : 0;
  }

  // The id at which the running mass of what stays, by id, passes this share of it.
  __device__ void choose(double uniform, int32_t* token) {
    const uint64_t total = above_ + ties_ * edge_mass_;
    const uint64_t drawn =
        min(static_cast<uint64_t>(uniform * static_cast<double>(total)), total - 1);
    const auto kept = [&](uint64_t from, uint64_t count) {
      return (from >= ties_ ? 0 : min(count, ties_ - from)) * edge_mass_;
    };
    // A range of ids in which it lies, what is before that, and how many ties.
    int begin = 0, end = n_;
    uint64_t before = 0, ties_before = 0;
    while (end - begin > 32) {
      const int range = (end - begin + kDrawWarps - 1) / kDrawWarps;  // a warp's
      const int first = begin + warp() * range, last = min(first + range, end);
      uint64_t sum = 0;
      uint32_t same = 0;
#pragma unroll 8
      for (int i = first + lane(); i < last; i += 32) {
        const uint32_t k = ordered(logits_[i]);
        const float w = weights_[i];
        if (k > edge_) sum += mass(w);
        same += edge_ && k == edge_;
      }
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
      same = __reduce_add_sync(kAllLanes, same);
      __syncthreads();
      if (lane() == 0) {
        s_.warps[0][warp()] = sum;
        s_.warps[1][warp()] = same;
      }
      __syncthreads();
      int w = 0;
      for (; w + 1 < kDrawWarps; ++w) {
        const uint64_t here = s_.warps[0][w] + kept(ties_before, s_.warps[1][w]);
        if (drawn < before + here) break;
        before += here;
        ties_before += s_.warps[1][w];
      }
      begin += w * range;
      end = min(begin + range, end);
    }
    if (warp() > 0) return;
    const int i = begin + lane();
    const uint32_t k = i < end ? ordered(logits_[i]) : 0;
    const bool at_edge = edge_ && k == edge_;
    const unsigned edge_lanes = __ballot_sync(kAllLanes, at_edge);
    const uint64_t rank = ties_before + __popc(edge_lanes & ((1u << lane()) - 1));
    uint64_t x = 0;
    if (k > edge_) x = mass(weights_[i]);
    if (at_edge && rank < ties_) x = edge_mass_;
    const uint64_t through = before + sum_through(x);
    if (drawn >= through - x && drawn < through) *token = i;
  }

 private:
  static constexpr int kCount = 0, kMass = 1;
  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int warp() { return threadIdx.x / 32; }

  // Lists the members of the bin in which the count or mass reaches `wanted`; returns what is
  // before that bin.
  __device__ uint64_t enter(int of, uint64_t wanted, int result) {
    __syncthreads();
    if (before_[of] < wanted && before_[of] + in_bin_[of] >= wanted)
      s_.found = {static_cast<int>(threadIdx.x), {before_[kCount], before_[kMass]}};
    if (threadIdx.x == 0) s_.members = 0;
    __syncthreads();
    const int bin = s_.found.bin;
    constexpr int kAtOnce = 8;
    for (int start = 0; start < n_; start += kAtOnce * kDrawThreads) {
      float logits[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int i = start + j * kDrawThreads + static_cast<int>(threadIdx.x);
        logits[j] = i < n_ ? logits_[i] : NAN;
      }
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const bool member = weigh_.candidate(logits[j]) && weigh_.bin(logits[j]) == bin;
        const unsigned lanes = __ballot_sync(kAllLanes, member);
        if (lanes == 0) continue;
        uint32_t at = 0;
        if (lane() == 0) at = atomicAdd(&s_.members, __popc(lanes));
        at = __shfl_sync(kAllLanes, at, 0) + __popc(lanes & ((1u << lane()) - 1));
        const int i = start + j * kDrawThreads + static_cast<int>(threadIdx.x);
        if (member) list_[at] = {logits[j], weights_[i]};
      }
    }
    __syncthreads();
    size_ = static_cast<int>(s_.members);
    return s_.found.before[result];
  }

  // The edge is in the listed bin, before which there is so much mass.
  __device__ void cut(uint32_t edge, uint64_t before) {
    edge_ = edge;
    uint64_t mine = 0;
    float weight = 0;
    for (int i = threadIdx.x; i < size_; i += kDrawThreads) {
      const uint32_t k = ordered(list_[i].logit);
      if (k > edge) mine += mass(list_[i].weight);
    }
    weight = weigh_.of(from_ordered(edge));
    for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(kAllLanes, mine, step);
    __syncthreads();
    if (lane() == 0) s_.warps[0][warp()] = mine;
    __syncthreads();
    above_ = before;
    for (int w = 0; w < kDrawWarps; ++w) above_ += s_.warps[0][w];
    edge_mass_ = mass(weight);
  }
  __device__ static float from_ordered(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
  }

  Shared& s_;
  const float* logits_;
  const float* weights_;
  int n_;
  Weights weigh_;
  Member* list_;  // of the bin that was entered
  int size_ = 0;
  bool limited_ = false;                     // by top-k
  uint64_t in_bin_[2], before_[2], all_[2];  // counts and masses: of this thread's bin, before it
  uint32_t edge_ = 0;
  uint64_t ties_ = 0, edge_mass_ = 0, above_ = 0;  // above_: mass of the keys above the edge
};

__global__ void __launch_bounds__(kDrawThreads)
    draw(const float* logits, const int32_t n, const SampleRow* rows, const Best* parts,
         const float* weights, const Bins* bins, Member* lists, int32_t* token) {
  static_assert(kBins == kDrawThreads);
  __shared__ Draw::Shared shared;
  after_previous();
  const SampleRow row = rows[blockIdx.x];
  const Best best = warp_best(parts[blockIdx.x * kParts + threadIdx.x % 32]);
  if (greedy(row, best)) {
    if (threadIdx.x == 0) token[blockIdx.x] = best.logit == -INFINITY ? 0 : best.id;
    return;
  }
  const int64_t from = int64_t{blockIdx.x} * n;
  Draw draw(shared, logits + from, weights + from, n, Weights(row, best.logit), bins[blockIdx.x],
            lists + from);
  if (row.top_k > 0) draw.keep_top_k(static_cast<uint32_t>(row.top_k));
  if (row.top_p < 1.0f) draw.keep_top_p(row.top_p);
  draw.choose(row.uniform, token + blockIdx.x);
}

}  // namespace

int64_t sample_scratch(int32_t row_count, int32_t vocabulary) {
  constexpr int64_t kRow = (sizeof(Best) * kParts + sizeof(Bins)) / sizeof(float);
  return int64_t{row_count} * (kRow + 3 * int64_t{vocabulary});
}

void sample(float* logits, int32_t row_count, int32_t vocabulary, const SampleRow* rows,
            int32_t* token, float* scratch, cudaStream_t stream) {
  if (row_count == 0) return;
  if (vocabulary < 1 || vocabulary > kMaxVocabulary)
    throw std::invalid_argument("sample: a vocabulary of " + std::to_string(vocabulary) +
                                "; at most " + std::to_string(kMaxVocabulary));
  auto* const best = reinterpret_cast<Best*>(scratch);
  auto* const bins = reinterpret_cast<Bins*>(best + int64_t{row_count} * kParts);
  auto* const lists = reinterpret_cast<Member*>(bins + row_count);
  auto* const weights = reinterpret_cast<float*>(lists + int64_t{row_count} * vocabulary);
  const dim3 parts(kParts, row_count);
  launch("sample", penalise, row_count, kPenaltyThreads, 0, stream, logits, vocabulary, rows, bins);
  launch("sample", highest_of_part, parts, kHighestThreads, 0, stream, logits, vocabulary, best);
  launch("sample", weigh, parts, kHighestThreads, 0, stream, logits, vocabulary, rows, best,
         weights, bins);
  launch("sample", draw, row_count, kDrawThreads, 0, stream, logits, vocabulary, rows, best,
         weights, bins, lists, token);
}

}  // namespace ringtide::kernels::cuda
