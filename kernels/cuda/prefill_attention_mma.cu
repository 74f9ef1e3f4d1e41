// Prefill attention for any device from 8.0 on: a block of 4 warps takes 64 queries of one head, a
// warp 16 of them, and walks the tiles of keys that they see; the next tile is copied meanwhile.
#include "kernels/cuda/check.h"
#include "kernels/cuda/prefill_attention_paths.h"
#include "kernels/cuda/shared_memory_inl.cuh"
#include "kernels/cuda/softmax_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kQueries = 64;

// Up to kKeys consecutive tokens of a plane, all counted from the tile's first one.
struct Tile {
  int64_t k_row, v_row;
  int32_t begin, end;
  Sight sight;
  bool far;
};

// The tiles that queries [first, last] see, in the order of the lists.
template <int kKeys>
class TileWalk {
 public:
  __device__ TileWalk(const PrefillAttention& a, int kv_head, int64_t first, int64_t last)
      : a_(a), head_row_(kv_head * a.unit), first_(first), last_(last) {
    open();
  }

  __device__ bool next(Tile& tile) {
    while (true) {
      while (at_ >= count_) {
        if (++part_ == 3) return false;
        open();
      }
      const KvRef& ref = list().refs[at_];
      const int32_t from = from_;
      from_ += kKeys;
      if (from_ >= a_.unit) from_ = 0, ++at_;
      tile.begin = max(ref.begin - from, 0);
      tile.end = min(ref.end - from, kKeys);
      tile.sight = sight(first_, last_, ref.position + from, tile.begin, tile.end,
                         part_ == 0 ? a_.near_band : a_.far_band);
      if (!tile.sight.any) continue;
      tile.far = part_ > 0;
      const int64_t row = int64_t{list().row_offset} + head_row_ + from;
      tile.k_row = row + ref.k_row;
      tile.v_row = row + ref.v_row;
      return true;
    }
  }

 private:
  __device__ const KvList& list() const {
    return part_ == 0 ? a_.lists.near : part_ == 1 ? a_.lists.far : a_.lists.units;
  }
  __device__ void open() {
    at_ = 0;
    count_ = list().refs ? min(*list().count, list().max_count) : 0;
  }

  const PrefillAttention& a_;
  int64_t head_row_, first_, last_;
  int part_ = 0;
  int32_t at_ = 0, count_ = 0, from_ = 0;
};

// Zero where not `real`; nothing is read then.
__device__ void copy16(uint32_t to, const bf16* from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(real ? 16 : 0)
               : "memory");
}
__device__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

__device__ void multiply(float* d, const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Rows of head_dim values in shared memory, padded by 16 bytes: eight rows one below the other
// then lie in different banks.
template <int kHeadDim>
constexpr int kStride = kHeadDim + 8;

// `rows` rows from `from` (stride in elements); those outside [begin, end) become zero.
template <int kHeadDim, int kRows>
__device__ void copy_rows(bf16* to, const bf16* from, int64_t stride, int begin, int end) {
  constexpr int kChunks = kHeadDim / 8;
#pragma unroll
  for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, column = i % kChunks * 8;
    const bool real = row >= begin && row < end;
    copy16(shared_address(to + row * kStride<kHeadDim> + column),
           from + (real ? row * stride + column : 0), real);
  }
}

template <int kHeadDim, int kKeys>
struct Shared {
  bf16 q[kQueries * kStride<kHeadDim>];
  bf16 k[2][kKeys * kStride<kHeadDim>];
  bf16 v[2][kKeys * kStride<kHeadDim>];
};

// s = q k^T of this warp's 16 queries.
template <int kHeadDim, int kKeys>
__device__ void multiply_keys(const bf16* q, const bf16* k, float (&s)[kKeys / 2]) {
  const int lane = threadIdx.x % 32;
  const bf16* q_at = q + lane % 16 * kStride<kHeadDim> + lane / 16 * 8;
  const bf16* k_at = k + (lane % 8 + lane / 16 * 8) * kStride<kHeadDim> + lane / 8 % 2 * 8;
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) s[i] = 0;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    uint32_t a[4];
    load_matrices(a, q_at + d);
#pragma unroll
    for (int n = 0; n < kKeys; n += 16) {
      uint32_t b[4];
      load_matrices(b, k_at + n * kStride<kHeadDim> + d);
      multiply(&s[n / 2], a, b[0], b[1]);
      multiply(&s[n / 2 + 4], a, b[2], b[3]);
    }
  }
}

// o += p v.
template <int kHeadDim, int kKeys>
__device__ void multiply_values(const uint32_t (&p)[kKeys / 4], const bf16* v,
                                float (&o)[kHeadDim / 2]) {
  const int lane = threadIdx.x % 32;
  const bf16* v_at = v + lane % 16 * kStride<kHeadDim> + lane / 16 * 8;
#pragma unroll
  for (int n = 0; n < kKeys; n += 16) {
#pragma unroll
    for (int d = 0; d < kHeadDim; d += 16) {
      uint32_t b[4];
      load_matrices_transposed(b, v_at + n * kStride<kHeadDim> + d);
      multiply(&o[d / 2], &p[n / 4], b[0], b[1]);
      multiply(&o[d / 2 + 4], &p[n / 4], b[2], b[3]);
    }
  }
}

template <int kHeadDim, int kKeys>
__global__ void __launch_bounds__(kThreads) attend(const __grid_constant__ PrefillAttention a) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<kHeadDim, kKeys>*>(memory);
  // Later queries see more: their tiles go first.
  const int head = blockIdx.x % a.shape.heads;
  const int from = (gridDim.x - 1 - blockIdx.x) / a.shape.heads * kQueries;
  const int queries = min(kQueries, a.m - from);
  const int64_t first = position_of(a, from);
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  const float scale_log2 = a.scale * kLog2E;

  const auto copy_queries = [&](const bf16* q) {
    copy_rows<kHeadDim, kQueries>(shared.q, q + from * a.q_stride + head * kHeadDim, a.q_stride, 0,
                                  queries);
  };
  const auto copy_tile = [&](const Tile& tile, int stage) {
    copy_rows<kHeadDim, kKeys>(shared.k[stage], a.arena.base + tile.k_row * kHeadDim, kHeadDim,
                               tile.begin, tile.end);
    copy_rows<kHeadDim, kKeys>(shared.v[stage], a.arena.base + tile.v_row * kHeadDim, kHeadDim,
                               tile.begin, tile.end);
    commit_copies();
  };

  float o[kHeadDim / 2] = {};
  SoftmaxRows rows;
  const int64_t head_at = head * kHeadDim;
  TileWalk<kKeys> walk(a, head / a.shape.group(), first, first + queries - 1);
  Tile tile, next;
  bool more = walk.next(tile);
  bool far = more && tile.far;
  if (more) {
    copy_queries(far ? a.q_far : a.q_near);
    copy_tile(tile, 0);
  }
  for (int stage = 0; more; stage ^= 1) {
    more = walk.next(next);
    if (more) {
      copy_tile(next, stage ^ 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    if (tile.far && !far) {
      copy_queries(a.q_far);
      commit_copies();
      wait_copies<0>();
      far = true;
    }
    __syncthreads();
    float s[kKeys / 2];
    multiply_keys<kHeadDim, kKeys>(shared.q + threadIdx.x / 32 * 16 * kStride<kHeadDim>,
                                   shared.k[stage], s);
    if (!tile.sight.all || tile.begin > 0 || tile.end < kKeys)
      mask<kKeys / 8>(s, row, tile.begin, tile.end, tile.sight.low, tile.sight.high);
    float scale_before[2];
    absorb<kKeys / 8>(s, scale_log2, rows, scale_before);
    rescale<kHeadDim / 8>(o, scale_before);
    uint32_t p[kKeys / 4];
    pack<kKeys / 8>(s, p);
    multiply_values<kHeadDim, kKeys>(p, shared.v[stage], o);
    __syncthreads();
    tile = next;
  }
  const auto write = [&](auto carry) {
    if (carry.before) {
      carry.o_before = a.o_before + head_at;
      carry.lse_before = a.lse_before + head;
    }
    if (carry.partial) carry.o32 = a.o32 + head_at;
    finish<kHeadDim / 8>(o, rows, scale_log2, from + row, a.m, a.shape.heads, a.o + head_at,
                         a.lse ? a.lse + head : nullptr, carry);
  };
  if (a.o_before)
    a.o32 ? write(Carry<true, true>()) : write(Carry<true, false>());
  else
    a.o32 ? write(Carry<false, true>()) : write(Carry<false, false>());
}

template <int kHeadDim, int kKeys>
void launch(const PrefillAttention& a, cudaStream_t stream) {
  constexpr int kBytes = sizeof(Shared<kHeadDim, kKeys>);
  check(cudaFuncSetAttribute(attend<kHeadDim, kKeys>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kBytes),
        "prefill_attention");
  const int tiles = (a.m + kQueries - 1) / kQueries;
  attend<kHeadDim, kKeys><<<tiles * a.shape.heads, kThreads, kBytes, stream>>>(a);
  check_launch("prefill_attention");
}

}  // namespace

// 99 KiB of shared memory, the least that a device of 8.x has, bounds the tiles.
void prefill_attention_mma(const PrefillAttention& a, cudaStream_t stream) {
  switch (a.shape.head_dim) {
    case 64:
      return launch<64, 64>(a, stream);
    case 128:
      return launch<128, 64>(a, stream);
    case 256:
      return launch<256, 32>(a, stream);
  }
}

}  // namespace ringtide::kernels::cuda
