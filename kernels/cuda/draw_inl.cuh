// The choice of one row's token by one block, from its weights.
#pragma once

#include "kernels/cuda/edge_inl.cuh"
#include "kernels/cuda/token_weights_inl.cuh"

namespace ringtide::kernels::cuda {

constexpr int kDrawThreads = kEdgeThreads;
constexpr int kDrawWarps = kDrawThreads / 32;

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

}  // namespace ringtide::kernels::cuda
