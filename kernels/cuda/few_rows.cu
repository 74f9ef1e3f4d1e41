// Everywhere but on Hopper.
//
// The rows of w are the rows of the tensor cores' product, the rows of x its columns: so a result
// depends on its own row of x alone, and the same weights' tiles serve 1 to 64 rows.
//
// A block makes 128 rows of w over one part of k; parts are added in order by the block that comes
// last. The parts depend on (n, k) alone.
#include <algorithm>

#include "kernels/cuda/few_rows_sm90.h"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/mma_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileRows = 128;  // of w: 16 a warp
constexpr int kDepth = 64;      // of k in a stage: 128 bytes of each row
constexpr int kChunks = kDepth / 8;
constexpr int kBlocks = 128;  // wanted in flight: fewer tiles are split over k

struct Split {
  int tiles;  // of kTileRows
  int parts;  // of k
  int steps;  // of kDepth, in a part
};
Split split(int64_t n, int64_t k) {
  Split s;
  s.tiles = static_cast<int>((n + kTileRows - 1) / kTileRows);
  const int steps = static_cast<int>((k + kDepth - 1) / kDepth);
  const int wanted = std::clamp((kBlocks + s.tiles - 1) / s.tiles, 1, std::max(1, steps / 2));
  s.steps = (steps + wanted - 1) / wanted;
  s.parts = (steps + s.steps - 1) / s.steps;
  return s;
}

// Scratch: a counter for each tile that is split, then the partial sums.
static_assert(kBlocks <= kProductCounters);

// Stages in flight: at most 96 KiB a block, which every GPU since 8.0 has.
template <int Columns>
constexpr int kStages = Columns <= 2 ? 5 : 4;
// Whether the next kernel may start only when this one has asked for its last weights: the memory
// is then free for those that a next product asks for. With many columns that was seen to cost
// more.
template <int Columns>
constexpr bool kNextStartsLate = Columns <= 2;
template <int Columns>
constexpr int kStageBytes = (kTileRows + 8 * Columns) * kDepth * 2;

// Columns: groups of 8 rows of x.
template <int Columns>
__global__ void __launch_bounds__(kThreads, 2) product(const Product p, const Split s) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ bool last;
  constexpr int kS = kStages<Columns>;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int tile = blockIdx.y, part = blockIdx.x;
  const int first_step = part * s.steps;
  const int end_step = min(first_step + s.steps, static_cast<int>((p.k + kDepth - 1) / kDepth));

  const int chunk = tid % kChunks, line = tid / kChunks;  // 32 lines at once
  const uint32_t base = shared_address(shared);
  const auto place = [&](int row) {
    return static_cast<uint32_t>(row * kDepth * 2 + swizzle(row, chunk) * 16);
  };
  const bf16* const w = p.w + int64_t{tile} * kTileRows * p.k;
  const int64_t rows_left = p.n - int64_t{tile} * kTileRows;
  const auto load_w = [&](int step, int stage) {
    const int64_t k = int64_t{step} * kDepth + chunk * 8;
    const uint32_t to = base + stage * kStageBytes<Columns>;
#pragma unroll
    for (int i = 0; i < kTileRows / 32; ++i) {
      const int row = line + 32 * i;
      const bool valid = k < p.k && row < rows_left;
      copy_stream(to + place(row), valid ? w + row * p.k + k : p.w, valid);
    }
  };
  const auto load_x = [&](int step, int stage) {
    const int64_t k = int64_t{step} * kDepth + chunk * 8;
    const uint32_t to = base + stage * kStageBytes<Columns> + kTileRows * kDepth * 2;
#pragma unroll
    for (int i = 0; i < (Columns + 3) / 4; ++i) {
      const int row = line + 32 * i;
      if (Columns < 4 && row >= 8 * Columns) break;
      const bool valid = k < p.k && row < p.m;
      copy_async(to + place(row), valid ? p.x + row * p.k + k : p.x, valid);
    }
  };

  float sums[Columns][4] = {};
  // Weights depend on no other kernel.
#pragma unroll
  for (int i = 0; i < kS - 1; ++i)
    if (first_step + i < end_step) load_w(first_step + i, i);
  wait_for_previous();
  if (!kNextStartsLate<Columns> || end_step - first_step < kS - 1) let_next_start();
#pragma unroll
  for (int i = 0; i < kS - 1; ++i) {
    if (first_step + i < end_step) load_x(first_step + i, i);
    commit_copies();
  }
  for (int step = first_step, stage = 0; step < end_step; ++step, stage = (stage + 1) % kS) {
    wait_copies<kS - 2>();
    __syncthreads();
    const int ahead = step + kS - 1;
    if (ahead < end_step) {
      load_w(ahead, (stage + kS - 1) % kS);
      load_x(ahead, (stage + kS - 1) % kS);
    }
    commit_copies();
    if (kNextStartsLate<Columns> && ahead == end_step) let_next_start();

    const uint32_t at = base + stage * kStageBytes<Columns>;
    const uint32_t x_at = at + kTileRows * kDepth * 2;
    const auto address = [](uint32_t from, int row, int c) {
      return from + row * kDepth * 2 + swizzle(row, c) * 16;
    };
    uint32_t b[4];
#pragma unroll
    for (int kk = 0; kk < kDepth / 16; ++kk) {
      uint32_t a[4];
      load_matrices(a, address(at, warp * 16 + lane % 16, 2 * kk + lane / 16));
      if constexpr (Columns == 1) {
        if (kk % 2 == 0) load_matrices(b, address(x_at, lane % 8, 2 * kk + lane / 8));
        mma(sums[0], a, b[kk % 2 * 2], b[kk % 2 * 2 + 1]);
      } else {
#pragma unroll
        for (int j = 0; j < Columns; j += 2) {
          load_matrices(b, address(x_at, (j + lane / 16) * 8 + lane % 8, 2 * kk + lane / 8 % 2));
          mma(sums[j], a, b[0], b[1]);
          mma(sums[j + 1], a, b[2], b[3]);
        }
      }
    }
  }

  auto* const parts = reinterpret_cast<float4*>(p.scratch + kProductCounters);
  const auto sums_of = [&](int of, int j) {
    return parts + ((int64_t{tile} * s.parts + of) * Columns + j) * kThreads + tid;
  };
  if (s.parts > 1) {
#pragma unroll
    for (int j = 0; j < Columns; ++j)
      *sums_of(part, j) = make_float4(sums[j][0], sums[j][1], sums[j][2], sums[j][3]);
    __threadfence();
    __syncthreads();
    // Counts to parts - 1 and back to 0.
    if (tid == 0)
      last = atomicInc(reinterpret_cast<unsigned*>(p.scratch) + tile, s.parts - 1) ==
             static_cast<unsigned>(s.parts - 1);
    __syncthreads();
    if (!last) return;
    __threadfence();
  }
  // What is added to comes while the parts are added: no load may pass a store of the same array.
  const auto output = [&](int j, int i) {
    const int row = 8 * j + lane % 4 * 2 + i % 2;
    const int64_t n = int64_t{tile} * kTileRows + warp * 16 + lane / 4 + i / 2 * 8;
    return row < p.m && n < p.n ? row * p.n + n : -1;
  };
  float before[Columns][4] = {};
  if (p.write == Write::Add) {
#pragma unroll
    for (int j = 0; j < Columns; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (const int64_t at = output(j, i); at >= 0) before[j][i] = p.y32[at];
    }
  }
  if (s.parts > 1) {
#pragma unroll
    for (int j = 0; j < Columns; ++j) sums[j][0] = sums[j][1] = sums[j][2] = sums[j][3] = 0;
#pragma unroll(Columns <= 4 ? 4 : 2)
    for (int i = 0; i < s.parts; ++i) {
      float4 more[Columns];
#pragma unroll
      for (int j = 0; j < Columns; ++j) more[j] = __ldcg(sums_of(i, j));
#pragma unroll
      for (int j = 0; j < Columns; ++j) {
        sums[j][0] += more[j].x;
        sums[j][1] += more[j].y;
        sums[j][2] += more[j].z;
        sums[j][3] += more[j].w;
      }
    }
  }

#pragma unroll
  for (int j = 0; j < Columns; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t to = output(j, i);
      if (to < 0) continue;
      if (p.y) {
        p.y[to] = __float2bfloat16_rn(sums[j][i]);
      } else {
        p.y32[to] = before[j][i] + sums[j][i];
      }
    }
  }
}

template <int Columns>
void start(const Product& p, const Split& s, cudaStream_t stream) {
  constexpr int kBytes = kStages<Columns> * kStageBytes<Columns>;
  check(cudaFuncSetAttribute(product<Columns>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        "few_rows");
  launch("few_rows", product<Columns>, dim3(s.parts, s.tiles), kThreads, kBytes, stream, p, s);
}

}  // namespace

int64_t few_rows_scratch(int64_t n, int64_t k) {
  if (is_hopper()) return few_rows_sm90_scratch(n, k);
  const Split s = split(n, k);
  const int64_t sums = s.parts == 1 ? 0 : int64_t{s.tiles} * s.parts * kTileRows * kFewRows;
  return kProductCounters + sums;
}

void few_rows(const Product& p, cudaStream_t stream) {
  if (p.m == 0 || p.n == 0) return;
  if (p.m < 0 || p.m > kFewRows || p.k % 8 != 0 || (p.y == nullptr) == (p.y32 == nullptr) ||
      (p.write == Write::Add && p.y))
    throw std::invalid_argument("few_rows: m " + std::to_string(p.m) + ", k " +
                                std::to_string(p.k) + ", or its outputs are not as promised");
  if (is_hopper()) return few_rows_sm90(p, stream);
  const Split s = split(p.n, p.k);
  if (p.m <= 8) {
    start<1>(p, s, stream);
  } else if (p.m <= 16) {
    start<2>(p, s, stream);
  } else if (p.m <= 32) {
    start<4>(p, s, stream);
  } else {
    start<8>(p, s, stream);
  }
}

void gated_few_rows(const GatedProduct& p, cudaStream_t stream) {
  if (p.m == 0 || p.n == 0) return;
  if (p.m < 0 || p.m > kFewRows || p.k % 8 != 0)
    throw std::invalid_argument("gated_few_rows: m " + std::to_string(p.m) + ", k " +
                                std::to_string(p.k));
  if (is_hopper()) return gated_few_rows_sm90(p, stream);
  few_rows({.x = p.x,
            .w = p.w,
            .m = p.m,
            .n = 2 * p.n,
            .k = p.k,
            .y = p.between,
            .scratch = p.scratch},
           stream);
  gate_mul(p.between, p.m, p.n, p.gate, p.y, stream);
}

}  // namespace ringtide::kernels::cuda
