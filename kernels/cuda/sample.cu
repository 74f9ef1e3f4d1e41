// Four kernels: penalties; the highest logit; weights, and what lies in each of kBins ranges of
// them; then one block a row finds the range in which top-k or top-p ends, looks into that range
// alone, and draws.
#include "kernels/cuda/check.h"
#include "kernels/cuda/draw_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/sample.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kPenaltyThreads = 256;
constexpr int kHighestThreads = 512;
constexpr int kParts = 32;  // of a row, when its highest logit is searched
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
