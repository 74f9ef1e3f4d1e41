// A cluster of two blocks makes 256 rows of y by 256 columns: each block has its own rows of x, and
// loads half of the weights' tile for both. In a block one warp copies tiles through a ring of
// slots in shared memory, and two warpgroups multiply, 64 rows each. Blocks stay for as many tiles
// as come to them: the next tile's copies run while the results of the last one leave.
//
// A result is the sum over k in order of k, whatever the number of rows.
#include <algorithm>
#include <string>

#include "kernels/cuda/cluster_inl.cuh"
#include "kernels/cuda/gate_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/many_rows_sm90.h"
#include "kernels/cuda/mma_inl.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/wgmma_wide_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kGroups = 2;           // warpgroups that multiply
constexpr int kRows = 64 * kGroups;  // of x, in a block
constexpr int kColumns = 256;        // of y before it is gated: rows of w
constexpr int kHalf = kColumns / 2;  // that one block of the cluster loads
constexpr int kDepth = 64;           // of k in a slot: 128 bytes of each row
constexpr int kSlots = 4;
constexpr int kPiece = 64 * 128;  // bytes of results that leave at once: 64 rows
constexpr int kThreads = 128 * (kGroups + 1);
constexpr int kReleases = 2 * kGroups * 4;  // of a slot, by the warps that multiply in both blocks
// Pairs of row tiles that run beside each other over all columns, while the cache holds their x.
constexpr int kPairsTogether = 8;

enum class Out { Half, Sums, Gated };

struct __align__(1024) Shared {
  unsigned char x[kSlots][kRows * kDepth * 2];
  unsigned char w[kSlots][kColumns * kDepth * 2];
  unsigned char out[kGroups][2][kPiece];
  Barrier full[kSlots], empty[kSlots];
};
constexpr int kSharedBytes = sizeof(Shared) + 1023;
static_assert(kSharedBytes <= 227 * 1024);

struct Maps {
  CUtensorMap x, w, y;
};
struct Shape {
  int pairs;    // of row tiles
  int columns;  // tiles of them
  int steps;    // of kDepth
  int apart;    // rows of w between the halves of a tile of columns
  int width;    // rows of w from one tile's half to the next tile's
  Gate gate = Gate::Silu;
  bool adds = false;  // sums
};

// Tile `number` of a cluster: which pair of row tiles, which columns.
struct Tile {
  int pair, column;
  __device__ Tile(const Shape& s, int number) {
    const int all = kPairsTogether * s.columns, first = number / all * kPairsTogether;
    const int together = min(kPairsTogether, s.pairs - first), within = number % all;
    pair = first + within % together;
    column = within / together;
  }
};

struct Turn {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++slot == kSlots) slot = 0, parity ^= 1;
  }
};

__device__ void load_tiles(const Maps& maps, const Shape& s, Shared& shared, int cluster,
                           int clusters, int rank) {
  const auto load_w = [&](const Tile& tile, int step, int slot) {
    arrive_expecting(shared.full[slot], (kRows + kColumns) * kDepth * 2);
    copy_box_to_both(shared.w[slot] + rank * kHalf * kDepth * 2, maps.w, shared.full[slot],
                     step * kDepth, tile.column * s.width + rank * s.apart);
  };
  // Weights depend on no other kernel: as many as there are slots for come while that one ends.
  const int early = min(kSlots, s.steps);
  for (int i = 0; i < early; ++i) load_w(Tile(s, cluster), i, i);
  after_previous();
  Turn turn;
  for (int number = cluster; number < s.pairs * s.columns; number += clusters) {
    const Tile tile(s, number);
    const int row = (2 * tile.pair + rank) * kRows;
    for (int step = 0; step < s.steps; ++step) {
      if (number > cluster || step >= early) {
        wait(shared.empty[turn.slot], turn.parity ^ 1);
        load_w(tile, step, turn.slot);
      }
      copy_box(shared.x[turn.slot], maps.x, shared.full[turn.slot], step * kDepth, row);
      turn.advance();
    }
  }
}

class Multiplier {
 public:
  __device__ Multiplier(const Maps& maps, const Shape& s, Shared& shared, int group)
      : maps_(maps), s_(s), shared_(shared), group_(group), thread_(threadIdx.x % 128) {}

  template <Out kOut>
  __device__ void run(int cluster, int clusters, int rank) {
    const uint64_t x0 = uniform(operand(shared_.x[0] + group_ * 64 * kDepth * 2));
    const uint64_t w0 = uniform(operand(shared_.w[0]));
    for (int number = cluster; number < s_.pairs * s_.columns; number += clusters) {
      const Tile tile(s_, number);
      float d[128];
      int before = 0;
      for (int step = 0; step < s_.steps; ++step) {
        wait(shared_.full[turn_.slot], turn_.parity);
        const uint64_t x = operand_at(x0, turn_.slot * kRows * kDepth * 2);
        const uint64_t w = operand_at(w0, turn_.slot * kColumns * kDepth * 2);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < kDepth / 16; ++i)
          wgmma_wide(d, operand_at(x, i * 32), operand_at(w, i * 32), step > 0 || i > 0);
        wgmma_commit();
        if (step > 0) {
          wgmma_wait<1>();
          release(before);
        }
        before = turn_.slot;
        turn_.advance();
      }
      wgmma_wait<0>();
      hold(d);
      release(before);
      const int row = (2 * tile.pair + rank) * kRows + group_ * 64;
      if constexpr (kOut == Out::Gated) {
        gate(d);
        write_half<kHalf / 64>(d, row, tile.column * kHalf);
      } else if constexpr (kOut == Out::Half) {
        write_half<kColumns / 64>(d, row, tile.column * kColumns);
      } else {
        write_sums(d, row, tile.column * kColumns);
      }
    }
    if (thread_ == 0) wait_stores();
  }

 private:
  // This warp has read the slot of both blocks' copies: one lane tells each.
  __device__ void release(int slot) {
    if (thread_ % 32 < 2) arrive_at(shared_.empty[slot], thread_ % 32);
  }
  // Of the first half of the columns, the activation, times the second half.
  __device__ void gate(float (&d)[128]) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) d[i] = activate(d[i], s_.gate) * d[64 + i];
  }

  // The buffer for this group's next piece, once what was in it has been read.
  __device__ unsigned char* next_buffer() {
    if (thread_ == 0) wait_stores_read<1>();
    named_sync(1 + group_, 128);
    buffer_ ^= 1;
    return shared_.out[group_][buffer_];
  }
  template <class Send>
  __device__ void leave(Send send) {
    fence_async_proxy();
    named_sync(1 + group_, 128);
    if (thread_ != 0) return;
    send();
    commit_stores();
  }

  // 64 columns at a time. A thread has, of every 8 columns, 2 of row lane / 4 and 2 of the one 8
  // on.
  template <int kPieces>
  __device__ void write_half(const float (&d)[128], int row, int column) {
    const int lane = thread_ % 32, line = thread_ / 32 * 16 + lane % 16;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      unsigned char* const to = next_buffer();
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        const float* const f = &d[(piece * 8 + j) * 4];
        const uint32_t words[4] = {pack_bf16(f[0], f[1]), pack_bf16(f[2], f[3]),
                                   pack_bf16(f[4], f[5]), pack_bf16(f[6], f[7])};
        store_matrices(words, to + line * 128 + swizzle(line, j + lane / 16) * 16);
      }
      leave([&] { store_box(maps_.y, to, column + piece * 64, row); });
    }
  }
  // 32 at a time.
  __device__ void write_sums(const float (&d)[128], int row, int column) {
    const int lane = thread_ % 32, line = thread_ / 32 * 16 + lane / 4;
#pragma unroll
    for (int piece = 0; piece < kColumns / 32; ++piece) {
      unsigned char* const to = next_buffer();
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* const f = &d[(piece * 4 + j) * 4];
        const int chunk = 2 * j + lane % 4 / 2, within = lane % 2 * 8;
        *reinterpret_cast<float2*>(to + line * 128 + swizzle(line, chunk) * 16 + within) =
            make_float2(f[0], f[1]);
        *reinterpret_cast<float2*>(to + (line + 8) * 128 + swizzle(line + 8, chunk) * 16 + within) =
            make_float2(f[2], f[3]);
      }
      leave([&] {
        s_.adds ? add_box(maps_.y, to, column + piece * 32, row)
                : store_box(maps_.y, to, column + piece * 32, row);
      });
    }
  }

  const Maps& maps_;
  const Shape& s_;
  Shared& shared_;
  const int group_, thread_;
  Turn turn_;
  int buffer_ = 0;
};

template <Out kOut>
__global__ void __cluster_dims__(2) __launch_bounds__(kThreads, 1)
    multiply(const __grid_constant__ Maps maps, const __grid_constant__ Shape s) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory + (-shared_address(memory) & 1023));
  const int rank = static_cast<int>(rank_in_cluster());
  const int cluster = blockIdx.x / 2, clusters = gridDim.x / 2;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kSlots; ++i) {
      init_barrier(shared.full[i], 1);
      init_barrier(shared.empty[i], kReleases);
    }
    fence_barrier_init();
  }
  cluster_sync();
  // Only the first copy of x has to wait for the kernel before: all else follows from it.
  const int group = threadIdx.x / 128;
  if (group == kGroups) {
    fewer_registers<40>();
    if (threadIdx.x % 128 == 0) load_tiles(maps, s, shared, cluster, clusters, rank);
  } else {
    more_registers<232>();
    Multiplier(maps, s, shared, group).run<kOut>(cluster, clusters, rank);
  }
  // The other block may still copy to this one, and release its slots.
  __syncwarp();
  cluster_sync();
#endif
}

TensorView<2> rows_of(const bf16* base, int64_t rows, int64_t k, uint32_t box_rows) {
  return {base,
          {static_cast<uint64_t>(k), static_cast<uint64_t>(rows)},
          {static_cast<uint64_t>(k) * 2},
          {kDepth, box_rows}};
}

template <Out kOut>
void start(const char* name, const Maps& maps, Shape s, int64_t m, cudaStream_t stream) {
  constexpr auto kernel = multiply<kOut>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        name);
  int device = 0, processors = 0;
  check(cudaGetDevice(&device), name);
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), name);
  s.pairs = static_cast<int>((m + 2 * kRows - 1) / (2 * kRows));
  const int clusters = std::min(processors / 2, s.pairs * s.columns);
  launch(name, kernel, 2 * clusters, kThreads, kSharedBytes, stream, maps, s);
}

int tiles(int64_t n, int64_t width) { return static_cast<int>((n + width - 1) / width); }

}  // namespace

bool sm90_serves(int64_t n, int64_t k) {
  // At 2,048 rows, eight pairs, its tiles are to come to nearly two for each cluster or more.
  return n >= 4096 && k % 8 == 0 && n % 8 == 0;
}

void many_rows_sm90(const Product& p, cudaStream_t stream) {
  const Shape s{.pairs = 0,
                .columns = tiles(p.n, kColumns),
                .steps = tiles(p.k, kDepth),
                .apart = kHalf,
                .width = kColumns,
                .adds = p.write == Write::Add};
  Maps maps{
      tensor_map(rows_of(p.x, p.m, p.k, kRows)), tensor_map(rows_of(p.w, p.n, p.k, kHalf)), {}};
  if (p.y) {
    maps.y = tensor_map(TensorView<2>{p.y,
                                      {static_cast<uint64_t>(p.n), static_cast<uint64_t>(p.m)},
                                      {static_cast<uint64_t>(p.n) * 2},
                                      {64, 64}});
    start<Out::Half>("many_rows", maps, s, p.m, stream);
  } else {
    maps.y =
        tensor_map(TensorView<2, float>{p.y32,
                                        {static_cast<uint64_t>(p.n), static_cast<uint64_t>(p.m)},
                                        {static_cast<uint64_t>(p.n) * 4},
                                        {32, 64}});
    start<Out::Sums>("many_rows", maps, s, p.m, stream);
  }
}

void gated_rows_sm90(const GatedProduct& p, cudaStream_t stream) {
  const Shape s{.pairs = 0,
                .columns = tiles(p.n, kHalf),
                .steps = tiles(p.k, kDepth),
                .apart = static_cast<int>(p.n),
                .width = kHalf,
                .gate = p.gate};
  const Maps maps{tensor_map(rows_of(p.x, p.m, p.k, kRows)),
                  tensor_map(rows_of(p.w, 2 * p.n, p.k, kHalf)),
                  tensor_map(TensorView<2>{p.y,
                                           {static_cast<uint64_t>(p.n), static_cast<uint64_t>(p.m)},
                                           {static_cast<uint64_t>(p.n) * 2},
                                           {64, 64}})};
  start<Out::Gated>("gated_rows", maps, s, p.m, stream);
}

}  // namespace ringtide::kernels::cuda
