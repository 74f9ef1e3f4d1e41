// Prefill attention for Hopper. A block takes 64 queries of one head per consumer warpgroup; one
// warp walks the lists and copies the tiles of keys and values that these queries see through a
// ring of slots in shared memory; the consumers multiply and keep the softmax.
//
// A consumer has the products of two tiles in flight: keys of tile j, then values of tile j - 1;
// while the latter runs it turns the former into weights. Consumers take turns in issuing, so that
// one's softmax falls into another's products (the schedule of FlashAttention-3, arXiv:2407.08608).
//
// The ring carries K0, K1, V0, K2, V1, ..., end, V of the last tile. `end` is a slot without data.
#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper_inl.cuh"
#include "kernels/cuda/prefill_attention_paths.h"
#include "kernels/cuda/softmax_inl.cuh"
#include "kernels/cuda/tensor_map.h"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kKeys = kTmaUnit;  // of a tile
constexpr int kSharedBytes = 227 * 1024;

enum : uint32_t {
  kEnd = 1,      // no tile: the list is over
  kFar = 2,      // for the far queries
  kPartial = 4,  // some query does not see some token
  kRagged = 8,   // some tokens do not take part for any query: their values may be anything
};
// What the consumers know of a tile of keys: query i of the tile of queries sees its token j where
// max(begin, low + i) <= j < min(end, high + i).
struct __align__(16) TileNote {
  int32_t packed = 0;  // begin, end: 8 bits each; flags
  int32_t low = 0, high = 0;
  __device__ int32_t begin() const { return packed & 0xff; }
  __device__ int32_t end() const { return packed >> 8 & 0xff; }
  __device__ bool has(uint32_t flag) const { return packed >> 16 & flag; }
};
inline __device__ int32_t pack_note(int32_t begin, int32_t end, uint32_t flags) {
  return begin | end << 8 | static_cast<int32_t>(flags << 16);
}

template <int kHeadDim, int kGroups>
struct __align__(1024) Shared {
  static constexpr int kQueries = 64 * kGroups;
  static constexpr int kQueryBytes = kQueries * kHeadDim * 2;
  static constexpr int kTileBytes = kKeys * kHeadDim * 2;
  static constexpr int kSlots = std::min((kSharedBytes - 2048 - 2 * kQueryBytes) / kTileBytes, 8);

  unsigned char q[2][kQueryBytes];  // near, far
  unsigned char slot[kSlots][kTileBytes];
  TileNote note[kSlots];
  Barrier full[kSlots], empty[kSlots];
  Barrier q_full[2], q_empty;
};

template <int kSlots>
struct Ring {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++slot == kSlots) slot = 0, parity ^= 1;
  }
};

// Tiles of queries, those of the latest positions first since they see the most, dealt to and fro
// among the blocks so that the sums come out even. Heads run innermost: blocks that run together
// read the same keys.
class Deal {
 public:
  __device__ Deal(int tiles, int heads) : tiles_(tiles), heads_(heads) { settle(); }
  __device__ bool more() const { return item_ < tiles_ * heads_; }
  __device__ void advance() {
    ++round_;
    settle();
  }
  __device__ int tile() const { return tiles_ - 1 - item_ / heads_; }
  __device__ int head() const { return item_ % heads_; }

 private:
  __device__ void settle() {
    const int blocks = gridDim.x, block = blockIdx.x;
    item_ = round_ * blocks + (round_ % 2 ? blocks - 1 - block : block);
  }
  int tiles_, heads_, round_ = 0, item_ = 0;
};

struct Maps {
  CUtensorMap q_near, q_far, arena;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// One warp. Lane 0 waits and copies.
template <int kHeadDim, int kGroups>
class Producer {
 public:
  using S = Shared<kHeadDim, kGroups>;
  __device__ Producer(const PrefillAttention& a, const Maps& maps, S& shared)
      : a_(a), maps_(maps), s_(shared), lane_(threadIdx.x % 32) {}

  __device__ void run(int tile, int head) {
    head_ = head;
    from_ = tile * S::kQueries;
    loaded_ = 0;
    value_row_ = -1;
#pragma unroll 1
    for (int part = 0; part < 3; ++part) walk(part);
    if (lane_ == 0) {
      claim();
      s_.note[ring_.slot] = {pack_note(0, 0, kEnd)};
      arrive(s_.full[ring_.slot]);
      ring_.advance();
      put_values();
    }
    if (loaded_) q_parity_ ^= 1;
  }

 private:
  __device__ Sight sight_of(const KvRef& ref, bool far) const {
    const int64_t first = a_.position + from_;
    const int64_t last = a_.position + min(from_ + S::kQueries, a_.m) - 1;
    return sight(first, last, ref.position, ref.begin, ref.end, far ? a_.far_band : a_.near_band);
  }

  __device__ void walk(int part) {
    const KvList& list = part == 0 ? a_.lists.near : part == 1 ? a_.lists.far : a_.lists.units;
    const int count = list.refs ? min(*list.count, list.max_count) : 0;
    constexpr int kAhead = 4;  // loads in flight: most of a list may be out of sight
#pragma unroll 1
    for (int base = 0; base < count; base += 32 * kAhead) {
      uint32_t seen = 0;  // of entries base + 32 * lane and on
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int at = base + 32 * i + lane_;
        const bool any = at < count && sight_of(list.refs[at], part > 0).any;
        const uint32_t all = __ballot_sync(~0u, any);
        if (lane_ == i) seen = all;
      }
#pragma unroll 1
      for (int i = 0; i < kAhead; ++i)
        put_seen(list, base + 32 * i, __shfl_sync(~0u, seen, i), part > 0);
    }
  }

  // The tiles of 32 entries whose bits are set.
  __device__ void put_seen(const KvList& list, int base, uint32_t seen, bool far) {
    if (!seen) return;
    int k_row = 0, v_row = 0, packed = 0, low = 0, high = 0;
    if (seen >> lane_ & 1) {
      const KvRef ref = list.refs[base + lane_];
      const Sight sight = sight_of(ref, far);
      const int row = list.row_offset + head_ / a_.shape.group() * kKeys;
      k_row = ref.k_row + row;
      v_row = ref.v_row + row;
      const bool ragged = ref.begin > 0 || ref.end < kKeys;
      const uint32_t flags =
          (far ? kFar : 0) | (ragged ? kRagged : 0) | (ragged || !sight.all ? kPartial : 0);
      packed = pack_note(ref.begin, ref.end, flags);
      low = sight.low;
      high = sight.high;
    }
#pragma unroll 1
    for (; seen; seen &= seen - 1) {
      const int from = __ffs(seen) - 1;
      const int k = __shfl_sync(~0u, k_row, from), v = __shfl_sync(~0u, v_row, from);
      const TileNote note{__shfl_sync(~0u, packed, from), __shfl_sync(~0u, low, from),
                          __shfl_sync(~0u, high, from)};
      if (lane_ == 0) put_tile(note, k, v);
      loaded_ |= 1u << far;
    }
  }

  __device__ void put_tile(const TileNote& note, int k_row, int v_row) {
    claim();
    s_.note[ring_.slot] = note;
    copy_rows(k_row);
    const bool far = note.has(kFar);
    if (!(loaded_ >> far & 1)) {
      if (!loaded_) wait(s_.q_empty, q_parity_ ^ 1);
      arrive_expecting(s_.q_full[far], S::kQueryBytes);
      copy_box(s_.q[far], far ? maps_.q_far : maps_.q_near, s_.q_full[far], 0, from_, 0, head_);
    }
    put_values();
    value_row_ = v_row;
  }

  // Those of the tile before, if there was one.
  __device__ void put_values() {
    if (value_row_ < 0) return;
    claim();
    copy_rows(value_row_);
  }

  __device__ void claim() { wait(s_.empty[ring_.slot], ring_.parity ^ 1); }
  __device__ void copy_rows(int row) {
    arrive_expecting(s_.full[ring_.slot], S::kTileBytes);
    copy_box(s_.slot[ring_.slot], maps_.arena, s_.full[ring_.slot], 0, row, 0);
    ring_.advance();
  }

  const PrefillAttention& a_;
  const Maps& maps_;
  S& s_;
  int lane_, head_ = 0, from_ = 0;
  uint32_t loaded_ = 0;  // bit 0: near queries, bit 1: far queries
  int value_row_ = -1;
  uint32_t q_parity_ = 0;
  Ring<S::kSlots> ring_;
};

// A warpgroup, which is number `group` of the consumers.
template <int kHeadDim, int kGroups, bool kTurns>
__device__ void consume(const PrefillAttention& a, Shared<kHeadDim, kGroups>& shared, int group,
                        int tiles) {
  using S = Shared<kHeadDim, kGroups>;
  const int thread = threadIdx.x % 128, lane = threadIdx.x % 32;
  const int row = 64 * group + thread / 32 * 16 + lane / 4;
  const float scale_log2 = a.scale * kLog2E;
  const uint64_t q_operand = operand(shared.q[0] + group * 64 * 128);
  const uint64_t k_operand = operand(shared.slot[0]);
  const uint64_t v_operand = operand(shared.slot[0], kKeys * 128);

  Ring<S::kSlots> ring;
  uint32_t q_parity = 0;  // a bit for each kind of queries
  float s[kKeys / 2] = {};

  const auto await = [&] { wait(shared.full[ring.slot], ring.parity); };
  const auto release = [&](int slot) {
    __syncwarp();
    if (lane == 0) arrive(shared.empty[slot]);
  };
  const auto take_turn = [&] {
    if constexpr (kTurns) named_sync(1 + group, 256);
  };
  const auto pass_turn = [&] {
    if constexpr (kTurns) named_arrive(1 + (group + 1) % kGroups, 256);
  };
  const auto multiply_keys = [&](int slot, bool far) {
    const uint64_t q = operand_at(q_operand, far * S::kQueryBytes);
    const uint64_t k = operand_at(k_operand, slot * S::kTileBytes);
    hold(s);
    wgmma_fence();
    wgmma_shared<false>(s, q, k);
#pragma unroll
    for (int d = 1; d < kHeadDim / 16; ++d) {
      wgmma_shared<true>(s, operand_at(q, d / 4 * S::kQueries * 128 + d % 4 * 32),
                         operand_at(k, d / 4 * kKeys * 128 + d % 4 * 32));
    }
    wgmma_commit();
  };

  if constexpr (kTurns) {
    if (group == kGroups - 1) named_arrive(1, 256);
  }
  for (Deal deal(tiles, a.shape.heads); deal.more(); deal.advance()) {
    float o[kHeadDim / 2] = {};
    uint32_t p[kKeys / 4];
    SoftmaxRows rows;
    float scale_before[2];
    uint32_t loaded = 0;

    const auto await_queries = [&](bool far) {
      if (loaded >> far & 1) return;
      wait(shared.q_full[far], q_parity >> far & 1);
      q_parity ^= 1u << far;
      loaded |= 1u << far;
    };
    const auto weigh = [&](const TileNote& note) {
      if (note.has(kPartial))
        mask<kKeys / 8>(s, row, note.begin(), note.end(), note.low, note.high);
      absorb<kKeys / 8>(s, scale_log2, rows, scale_before);
    };
    const auto multiply_values = [&](int slot, const TileNote& note) {
      if (note.has(kRagged)) {
        if (thread < note.begin() || thread >= note.end()) {
#pragma unroll
          for (int i = 0; i < kHeadDim / 8; ++i) {
            *reinterpret_cast<uint4*>(shared.slot[slot] + i / 8 * kKeys * 128 + thread * 128 +
                                      i % 8 * 16) = {};
          }
        }
        fence_async_proxy();
        named_sync(1 + kGroups + group, 128);
      }
      const uint64_t v = operand_at(v_operand, slot * S::kTileBytes);
      hold(o);
      hold(p);
      wgmma_fence();
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n)
        wgmma_registers(o, &p[4 * n], operand_at(v, n * 16 * 128));
      wgmma_commit();
    };

    await();
    TileNote note = shared.note[ring.slot];
    if (!note.has(kEnd)) {
      const bool far = note.has(kFar);
      await_queries(far);
      take_turn();
      multiply_keys(ring.slot, far);
      pass_turn();
      wgmma_wait<0>();
      hold(s);
      release(ring.slot);
      ring.advance();
      weigh(note);
      pack<kKeys / 8>(s, p);
      await();
      TileNote next = shared.note[ring.slot];
      while (!next.has(kEnd)) {
        const int k_slot = ring.slot;
        const bool far = next.has(kFar);
        await_queries(far);
        take_turn();
        multiply_keys(k_slot, far);
        ring.advance();
        const int v_slot = ring.slot;
        await();
        multiply_values(v_slot, note);
        ring.advance();
        pass_turn();
        wgmma_wait<1>();
        hold(s);
        release(k_slot);
        weigh(next);
        hold(s);
        // The branch of this wait keeps the next one below the weighing, which needs nothing of it.
        await();
        note = next;
        next = shared.note[ring.slot];
        wgmma_wait<0>();
        hold(o);
        hold(p);
        release(v_slot);
        rescale<kHeadDim / 8>(o, scale_before);
        pack<kKeys / 8>(s, p);
      }
      release(ring.slot);
      ring.advance();
      __syncwarp();
      if (lane == 0) arrive(shared.q_empty);
      await();
      multiply_values(ring.slot, note);
      wgmma_wait<0>();
      hold(o);
      release(ring.slot);
      ring.advance();
    } else {
      release(ring.slot);
      ring.advance();
    }
    finish<kHeadDim / 8>(o, rows, scale_log2, deal.tile() * S::kQueries + row, a.m, a.shape.heads,
                         a.o + deal.head() * kHeadDim, a.lse ? a.lse + deal.head() : nullptr);
  }
  // The turn that the last one passed.
  if constexpr (kTurns) {
    if (group == 0) named_sync(1, 256);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kHeadDim, int kGroups, bool kTurns>
__global__ void __launch_bounds__(128 * (kGroups + 1), 1)
    attend(const __grid_constant__ PrefillAttention a, const __grid_constant__ Maps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using S = Shared<kHeadDim, kGroups>;
  extern __shared__ unsigned char memory[];
  S& shared = *reinterpret_cast<S*>(memory + (-shared_address(memory) & 1023));
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kSlots; ++i) {
      init_barrier(shared.full[i], 1);
      init_barrier(shared.empty[i], 4 * kGroups);
    }
    init_barrier(shared.q_full[0], 1);
    init_barrier(shared.q_full[1], 1);
    init_barrier(shared.q_empty, 4 * kGroups);
    fence_barrier_init();
  }
  __syncthreads();
  const int tiles = (a.m + S::kQueries - 1) / S::kQueries;
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == kGroups) {
    fewer_registers<56>();
    if (threadIdx.x % 128 >= 32) return;
    if (threadIdx.x % 32 == 0) {
      prefetch_map(maps.q_near);
      prefetch_map(maps.q_far);
      prefetch_map(maps.arena);
    }
    Producer<kHeadDim, kGroups> producer(a, maps, shared);
    for (Deal deal(tiles, a.shape.heads); deal.more(); deal.advance())
      producer.run(deal.tile(), deal.head());
  } else {
    more_registers<kGroups == 2 ? 224 : 152>();
    consume<kHeadDim, kGroups, kTurns>(a, shared, warpgroup, tiles);
  }
#endif
}

template <int kHeadDim, int kGroups, bool kTurns>
void launch(const PrefillAttention& a, cudaStream_t stream) {
  using S = Shared<kHeadDim, kGroups>;
  constexpr int kBytes = sizeof(S) + 1023;
  static_assert(kBytes <= kSharedBytes);
  const auto kernel = attend<kHeadDim, kGroups, kTurns>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "prefill_attention");
  const auto queries = [&](const bf16* q) {
    TensorView<4> view;
    view.base = q;
    view.size = {64, static_cast<uint64_t>(a.m), kHeadDim / 64,
                 static_cast<uint64_t>(a.shape.heads)};
    view.stride = {static_cast<uint64_t>(a.q_stride) * 2, 128, kHeadDim * 2};
    view.box = {64, S::kQueries, kHeadDim / 64, 1};
    return tensor_map(view);
  };
  TensorView<3> arena;
  arena.base = a.arena.base;
  arena.size = {64, static_cast<uint64_t>(a.arena.rows), kHeadDim / 64};
  arena.stride = {kHeadDim * 2, 128};
  arena.box = {64, kKeys, kHeadDim / 64};
  const Maps maps{queries(a.q_near), queries(a.q_far), tensor_map(arena)};

  int device = 0, processors = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "device");
  const int tiles = (a.m + S::kQueries - 1) / S::kQueries;
  const int blocks = min(processors, tiles * a.shape.heads);
  kernel<<<blocks, 128 * (kGroups + 1), kBytes, stream>>>(a, maps);
  check_launch("prefill_attention");
}

}  // namespace

void prefill_attention_sm90(const PrefillAttention& a, cudaStream_t stream) {
  switch (a.shape.head_dim) {
    case 64:
      return launch<64, 2, true>(a, stream);
    case 128:
      return launch<128, 2, true>(a, stream);
  }
}

}  // namespace ringtide::kernels::cuda
