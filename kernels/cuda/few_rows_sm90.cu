// On Hopper. The rows of w are the rows of the tensor cores' product, the rows of x its columns: so
// a result depends on its own row of x alone, and the same weights' tiles serve 1 to 64 rows.
//
// The work is a list of steps, tile after tile, and every block has as many of them: one warp
// copies them through a ring of slots in shared memory, without a pause between tiles, and two
// warpgroups multiply, 64 rows of w each. A tile that more than one block has a part of is added up
// in order by the block that comes last. Who has what depends on (n, k) alone.
//
// What it takes to come near the memory's rate on an H200: 192 KiB on their way to each
// multiprocessor, and 256 bytes of a row at once.
#include <algorithm>

#include "kernels/cuda/cluster_inl.cuh"
#include "kernels/cuda/few_rows_sm90.h"
#include "kernels/cuda/gate_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/wgmma_few_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kGroups = 2;               // warpgroups that multiply
constexpr int kTileRows = 64 * kGroups;  // of w
constexpr int kBox = 64;                 // of k in a copy: 128 bytes of each row
constexpr int kBoxes = 2;                // in a step
constexpr int kDepth = kBox * kBoxes;    // of k in a step
constexpr int kWorkers = 128 * kGroups;
constexpr int kThreads = kWorkers + 32;
constexpr int kBlocks = 132;    // an H100's multiprocessors
constexpr int kLeastSteps = 2;  // of a block: fewer are not worth adding up
static_assert(kBlocks <= kProductCounters);

enum class Out { Half, Sums, Gated };

// Columns: groups of 8 rows of x. A box lies as rows of 128 bytes.
template <int Columns>
struct __align__(1024) Shared {
  static constexpr int kSlots = Columns <= 2 ? 6 : Columns <= 4 ? 5 : 4;
  unsigned char w[kSlots][kBoxes][kTileRows * kBox * 2];
  unsigned char x[kSlots][kBoxes][8 * Columns * kBox * 2];
  bf16 up[8 * Columns * 64];  // results of the second half of a gated tile
  Barrier full[kSlots], empty[kSlots];
  bool last;
};

struct Maps {
  CUtensorMap w, x;
};
struct Shape {
  int tiles, steps;  // steps: of a tile
  int share;         // steps of a block
  int blocks;
  int apart;  // rows of w between the halves of a tile
  int width;  // rows of w from one tile's half to the next tile's
  int m;
  int64_t n;  // columns of y
  bf16* y;
  float* y32;
  bool adds;
  Gate gate;
  float* scratch;
};

Shape shape(int64_t rows_of_w, int64_t k) {
  Shape s{};
  s.tiles = static_cast<int>((rows_of_w + kTileRows - 1) / kTileRows);
  s.steps = static_cast<int>((k + kDepth - 1) / kDepth);
  const int64_t all = int64_t{s.tiles} * s.steps;
  s.share = static_cast<int>(std::max<int64_t>(kLeastSteps, (all + kBlocks - 1) / kBlocks));
  s.blocks = static_cast<int>((all + s.share - 1) / s.share);
  return s;
}

struct Turn {
  int slot = 0;
  uint32_t parity = 0;
  template <int kSlots>
  __device__ void advance() {
    if (++slot == kSlots) slot = 0, parity ^= 1;
  }
};

// One thread: this block's steps, in order.
template <int Columns>
__device__ void load_steps(const Maps& maps, const Shape& s, Shared<Columns>& shared) {
  constexpr int kSlots = Shared<Columns>::kSlots;
  constexpr int kBytes = sizeof(shared.w[0]) + sizeof(shared.x[0]);
  constexpr int kHalf = sizeof(shared.w[0][0]) / 2;
  const int begin = blockIdx.x * s.share;
  const int count = min(s.share, s.tiles * s.steps - begin);
  const auto load_w = [&](int i, int slot) {
    const int row = (begin + i) / s.steps * s.width, depth = (begin + i) % s.steps * kDepth;
    arrive_expecting(shared.full[slot], kBytes);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int box = 0; box < kBoxes; ++box)
        copy_box(shared.w[slot][box] + half * kHalf, maps.w, shared.full[slot], depth + box * kBox,
                 row + half * s.apart);
    }
  };
  const auto load_x = [&](int i, int slot) {
    const int depth = (begin + i) % s.steps * kDepth;
#pragma unroll
    for (int box = 0; box < kBoxes; ++box)
      copy_box(shared.x[slot][box], maps.x, shared.full[slot], depth + box * kBox, 0);
  };
  // Weights depend on no other kernel.
  const int early = min(kSlots, count);
  for (int i = 0; i < early; ++i) load_w(i, i);
  wait_for_previous();
  for (int i = 0; i < early; ++i) load_x(i, i);
  Turn turn;
  for (int i = early; i < count; ++i) {
    wait(shared.empty[turn.slot], turn.parity);
    load_w(i, turn.slot);
    load_x(i, turn.slot);
    turn.template advance<kSlots>();
  }
  // The memory is free for the weights that a next product asks for.
  let_next_start();
}

template <int Columns, Out kOut>
class Multiplier {
 public:
  __device__ Multiplier(const Shape& s, Shared<Columns>& shared)
      : s_(s), shared_(shared), thread_(threadIdx.x), group_(threadIdx.x / 128) {}

  __device__ void run() {
    const uint64_t w0 = uniform(operand(shared_.w[0][0] + group_ * 64 * kBox * 2));
    const uint64_t x0 = uniform(operand(shared_.x[0][0]));
    Turn turn;
    const int begin = blockIdx.x * s_.share;
    const int end = min(begin + s_.share, s_.tiles * s_.steps);
    for (int at = begin; at < end;) {
      const int tile = at / s_.steps, tile_end = min(end, (tile + 1) * s_.steps);
      float d[4 * Columns] = {};
      for (; at < tile_end; ++at) {
        wait(shared_.full[turn.slot], turn.parity);
        hold(d);
        wgmma_fence();
#pragma unroll
        for (int box = 0; box < kBoxes; ++box) {
          const int at_box = turn.slot * kBoxes + box;
          const uint64_t w = operand_at(w0, at_box * sizeof(shared_.w[0][0]));
          const uint64_t x = operand_at(x0, at_box * sizeof(shared_.x[0][0]));
#pragma unroll
          for (int i = 0; i < kBox / 16; ++i)
            wgmma_few(d, operand_at(w, i * 32), operand_at(x, i * 32));
        }
        wgmma_commit();
        // A slot is of more use on its way than a product in flight.
        wgmma_wait<0>();
        if (thread_ % 32 == 0) arrive(shared_.empty[turn.slot]);
        turn.template advance<Shared<Columns>::kSlots>();
      }
      hold(d);
      finish(tile, d);
    }
  }

 private:
  // What a block has of a tile that begins in it, or before it.
  __device__ float4* part(int block, int tile, int j) const {
    const int64_t of = 2 * block + (block * s_.share > tile * s_.steps ? 0 : 1);
    return reinterpret_cast<float4*>(s_.scratch + kProductCounters) +
           (of * Columns + j) * kWorkers + thread_;
  }

  __device__ void finish(int tile, float (&d)[4 * Columns]) {
    const int first = tile * s_.steps / s_.share;
    const int parts = ((tile + 1) * s_.steps - 1) / s_.share - first + 1;
    if (parts > 1) {
#pragma unroll
      for (int j = 0; j < Columns; ++j)
        *part(blockIdx.x, tile, j) =
            make_float4(d[4 * j], d[4 * j + 1], d[4 * j + 2], d[4 * j + 3]);
      __threadfence();
      named_sync(1, kWorkers);
      // Counts to parts - 1 and back to 0.
      if (thread_ == 0)
        shared_.last = atomicInc(reinterpret_cast<unsigned*>(s_.scratch) + first, parts - 1) ==
                       static_cast<unsigned>(parts - 1);
      named_sync(1, kWorkers);
      if (!shared_.last) return;
      __threadfence();
    }
    // What is added to comes while the parts are added: no load may pass a store of the same array.
    float before[4 * Columns] = {};
    if (kOut == Out::Sums && s_.adds) {
#pragma unroll
      for (int i = 0; i < 4 * Columns; ++i)
        if (const int64_t at = output(tile, i); at >= 0) before[i] = s_.y32[at];
    }
    if (parts > 1) {
#pragma unroll
      for (float& f : d) f = 0;
#pragma unroll(Columns <= 4 ? 4 : 2)
      for (int p = 0; p < parts; ++p) {
        float4 more[Columns];
#pragma unroll
        for (int j = 0; j < Columns; ++j) more[j] = __ldcg(part(first + p, tile, j));
#pragma unroll
        for (int j = 0; j < Columns; ++j) {
          d[4 * j] += more[j].x;
          d[4 * j + 1] += more[j].y;
          d[4 * j + 2] += more[j].z;
          d[4 * j + 3] += more[j].w;
        }
      }
    }
    if constexpr (kOut == Out::Gated) gate(d);
#pragma unroll
    for (int i = 0; i < 4 * Columns; ++i) {
      const int64_t to = output(tile, i);
      if (to < 0) continue;
      if constexpr (kOut == Out::Sums) {
        s_.y32[to] = before[i] + d[i];
      } else {
        s_.y[to] = __float2bfloat16_rn(d[i]);
      }
    }
  }

  // Both halves are rounded first, as they are where they leave the chip in between.
  __device__ void gate(float (&d)[4 * Columns]) {
    bf16* const up = shared_.up + thread_ % 128;
    if (group_ == 1) {
#pragma unroll
      for (int i = 0; i < 4 * Columns; ++i) up[i * 128] = __float2bfloat16_rn(d[i]);
    }
    named_sync(1, kWorkers);
    if (group_ == 0) {
#pragma unroll
      for (int i = 0; i < 4 * Columns; ++i)
        d[i] = activate(__bfloat162float(__float2bfloat16_rn(d[i])), s_.gate) *
               __bfloat162float(up[i * 128]);
    }
    named_sync(1, kWorkers);
  }

  // Where value i of this thread goes in y; -1: nowhere.
  __device__ int64_t output(int tile, int i) const {
    const int lane = thread_ % 32;
    const int row = i / 4 * 8 + lane % 4 * 2 + i % 2;
    const int within = thread_ % 128 / 32 * 16 + lane / 4 + i % 4 / 2 * 8;
    if (kOut == Out::Gated && group_ == 1) return -1;
    const int64_t column = int64_t{tile} * s_.width + group_ * 64 + within;
    return row < s_.m && column < s_.n ? row * s_.n + column : -1;
  }

  const Shape& s_;
  Shared<Columns>& shared_;
  const int thread_, group_;
};

template <int Columns, Out kOut>
__global__ void __launch_bounds__(kThreads, 1)
    multiply(const __grid_constant__ Maps maps, const __grid_constant__ Shape s) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<Columns>*>(memory + (-shared_address(memory) & 1023));
  if (threadIdx.x == 0) {
    for (Barrier& b : shared.full) init_barrier(b, 1);
    for (Barrier& b : shared.empty) init_barrier(b, kWorkers / 32);
    fence_barrier_init();
  }
  __syncthreads();
  // Only the first copy of x has to wait for the kernel before: all else follows from it.
  if (threadIdx.x >= kWorkers) {
    if (threadIdx.x == kWorkers) load_steps<Columns>(maps, s, shared);
  } else {
    Multiplier<Columns, kOut>(s, shared).run();
  }
#endif
}

TensorView<2> view(const bf16* base, int64_t rows, int64_t k, int box_rows) {
  return {base,
          {static_cast<uint64_t>(k), static_cast<uint64_t>(rows)},
          {static_cast<uint64_t>(k) * 2},
          {kBox, static_cast<uint32_t>(box_rows)}};
}

template <int Columns, Out kOut>
void start(const char* name, const bf16* w, int64_t rows_of_w, const bf16* x, int64_t k,
           const Shape& s, cudaStream_t stream) {
  constexpr int kBytes = sizeof(Shared<Columns>) + 1023;
  static_assert(kBytes <= 227 * 1024);
  constexpr auto kernel = multiply<Columns, kOut>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), name);
  const Maps maps{tensor_map(view(w, rows_of_w, k, 64)), tensor_map(view(x, s.m, k, 8 * Columns))};
  launch(name, kernel, s.blocks, kThreads, kBytes, stream, maps, s);
}

template <Out kOut>
void start(const char* name, const bf16* w, int64_t rows_of_w, const bf16* x, int64_t k, Shape s,
           cudaStream_t stream) {
  if (s.m <= 8) {
    start<1, kOut>(name, w, rows_of_w, x, k, s, stream);
  } else if (s.m <= 16) {
    start<2, kOut>(name, w, rows_of_w, x, k, s, stream);
  } else if (s.m <= 32) {
    start<4, kOut>(name, w, rows_of_w, x, k, s, stream);
  } else {
    start<8, kOut>(name, w, rows_of_w, x, k, s, stream);
  }
}

}  // namespace

int64_t few_rows_sm90_scratch(int64_t n, int64_t k) {
  return kProductCounters + int64_t{2} * shape(n, k).blocks * kTileRows * kFewRows;
}

void few_rows_sm90(const Product& p, cudaStream_t stream) {
  Shape s = shape(p.n, p.k);
  s.apart = 64;
  s.width = kTileRows;
  s.m = p.m;
  s.n = p.n;
  s.y = p.y;
  s.y32 = p.y32;
  s.adds = p.write == Write::Add;
  s.scratch = p.scratch;
  if (p.y) {
    start<Out::Half>("few_rows", p.w, p.n, p.x, p.k, s, stream);
  } else {
    start<Out::Sums>("few_rows", p.w, p.n, p.x, p.k, s, stream);
  }
}

void gated_few_rows_sm90(const GatedProduct& p, cudaStream_t stream) {
  Shape s = shape((p.n + 63) / 64 * kTileRows, p.k);
  s.apart = static_cast<int>(p.n);
  s.width = 64;
  s.m = p.m;
  s.n = p.n;
  s.y = p.y;
  s.gate = p.gate;
  s.scratch = p.scratch;
  start<Out::Gated>("gated_few_rows", p.w, 2 * p.n, p.x, p.k, s, stream);
}

}  // namespace ringtide::kernels::cuda
