#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/ring_merge.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr unsigned kMostThreads = 1024;  // of a block

// One value of a query's result. part(s), lse(s): of shard s.
template <class Part, class Lse>
__device__ void merge_value(int shards, const Part& part, const Lse& lse, bf16* o, float* lse_out) {
  float most = -INFINITY;
  for (int s = 0; s < shards; ++s) most = fmaxf(most, lse(s));
  float total = 0, value = 0;
  for (int s = 0; most > -INFINITY && s < shards; ++s) {
    const float weight = expf(lse(s) - most);
    total += weight;
    value += weight * part(s);
  }
  *o = __float2bfloat16_rn(total > 0 ? value / total : 0);
  if (lse_out) *lse_out = total > 0 ? most + logf(total) : -INFINITY;
}

// One block a query, one thread a dimension.
__global__ void merge_here(const float* parts, int64_t part, int shards, const RingMerge a) {
  const int64_t query = blockIdx.x, queries = gridDim.x;
  const int dim = blockDim.x, d = threadIdx.x;
  merge_value(
      shards, [&](int s) { return parts[s * part + query * dim + d]; },
      [&](int s) { return parts[s * part + queries * dim + query]; }, a.merged + query * dim + d,
      a.merged_lse && d == 0 ? a.merged_lse + query : nullptr);
}

__device__ uint64_t nanoseconds() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}
__device__ uint32_t load_acquire(const uint32_t* p) {
  uint32_t x;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
  return x;
}
__device__ void store_release(uint32_t* p, uint32_t x) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(x) : "memory");
}

// Whether the other shard's block has come to this turn, in time.
__device__ bool await(const PeerParts& p, const uint32_t* came, uint32_t turn) {
  const uint64_t begin = nanoseconds();
  for (uint32_t spins = 1;; ++spins) {
    if (static_cast<int32_t>(load_acquire(came) - turn) >= 0) return true;
    if (spins % 256 != 0) continue;
    const bool late = nanoseconds() - begin > static_cast<uint64_t>(p.deadline_ns);
    if (!late && load_acquire(&p.turn[kPeerBlocks]) == 0 &&
        *const_cast<volatile int32_t*>(p.over) == 0)
      continue;
    p.turn[kPeerBlocks] = 1;
    if (late) *const_cast<volatile int32_t*>(p.over) = 1;
    __threadfence_system();
    return false;
  }
}

// A block takes some of the queries, the same ones on every shard: it needs no other block of its
// device, and of each peer only the block of its own number. Threads: (dimensions, queries at once).
__global__ void __launch_bounds__(kMostThreads) exchange(const PeerParts p, const RingMerge a) {
  const int dim = a.shape.head_dim, d = threadIdx.x, block = blockIdx.x;
  const int64_t queries = a.queries();
  const int64_t first = queries * block / gridDim.x, end = queries * (block + 1) / gridDim.x;
  const int64_t own = first + threadIdx.y;
  const uint32_t turn = p.turn[block] + 1;
  const auto inbox = [&](int of, int from) {
    return p.inbox[of] + (int64_t{turn % 2} * p.shards + from) * p.floats;
  };
  if (p.turn[kPeerBlocks] != 0) return;  // gave up before
  for (int s = 0; s < p.shards; ++s) {
    if (s == p.shard) continue;
    float* to = inbox(s, p.shard);
    for (int64_t q = own; q < end; q += blockDim.y) {
      to[q * dim + d] = a.o[q * dim + d];
      if (d == 0) to[queries * dim + q] = a.lse[q];
    }
  }
  __threadfence_system();
  __syncthreads();
  bool came = true;
  if (threadIdx.y == 0 && d < p.shards && d != p.shard) {
    store_release(p.came[d] + block * p.shards + p.shard, turn);
    came = await(p, p.came[p.shard] + block * p.shards + d, turn);
  }
  if (!__syncthreads_and(came)) return;
  for (int64_t q = own; q < end; q += blockDim.y) {
    merge_value(
        p.shards,
        [&](int s) {
          return s == p.shard ? a.o[q * dim + d] : __ldcg(inbox(p.shard, s) + q * dim + d);
        },
        [&](int s) {
          return s == p.shard ? a.lse[q] : __ldcg(inbox(p.shard, s) + queries * dim + q);
        },
        a.merged + q * dim + d, a.merged_lse && d == 0 ? a.merged_lse + q : nullptr);
  }
  if (d == 0 && threadIdx.y == 0) p.turn[block] = turn;
}

}  // namespace

void merge_parts(const float* parts, int shards, const RingMerge& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  merge_here<<<static_cast<unsigned>(a.queries()), a.shape.head_dim, 0, stream>>>(
      parts, ring_part_floats(a.shape, a.rows), shards, a);
  check_launch("merge_parts");
}

void exchange_parts(const PeerParts& peers, const RingMerge& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  // Where shards share a device, blocks that wait for another shard leave room for what that one runs
  // first: a multiprocessor is divided into cache and shared memory while it is empty, and a kernel
  // that needs more shared memory than that cannot join. So these ask for as much as there is.
  check(cudaFuncSetAttribute(exchange, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared),
        "exchange_parts");
  // All blocks always, so that their turns stay alike: where a part lies follows from the turn.
  const auto dim = static_cast<unsigned>(a.shape.head_dim);
  const int64_t queries = (a.queries() + kPeerBlocks - 1) / kPeerBlocks;  // of a block
  const auto at_once = static_cast<unsigned>(std::min<int64_t>(queries, kMostThreads / dim));
  exchange<<<kPeerBlocks, dim3(dim, at_once), 0, stream>>>(peers, a);
  check_launch("exchange_parts");
}

}  // namespace ringtide::kernels::cuda
