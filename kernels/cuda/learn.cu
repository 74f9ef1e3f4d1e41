// Keys are the rows of the tensor cores' product, and (query, head of the group) its columns, query
// by query. Sums are then taken column after column, one thread a token and head: by query, in
// order.
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/mma_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 64;  // keys of a block: 16 for every second warp
// Columns of a tile, halves of which are for one warp or the next: heads of the group, for as many
// queries as fit. Where runs are of one query, small tiles leave room for more blocks.
constexpr int kSmallTile = 16;
template <int Dim>
constexpr int kLargeTile = Dim == 256 ? 32 : 64;

// query_sum += the queries of a run, for the values that this one of `blocks` thread blocks has.
__device__ void sum_queries(const Learn& a, const LearnRun& run, const bf16* q, int layer, int block,
                            int blocks) {
  const int row = a.shape.heads * a.shape.head_dim;
  if (!run.query_sum) return;
  for (int at = block * kThreads + threadIdx.x; at < row; at += blocks * kThreads) {
    float* const to = run.query_sum + a.sum_offset + int64_t{layer} * row + at;
    float sum = *to;
#pragma unroll 16
    for (int i = run.q_begin; i < run.q_end; ++i)
      sum += __bfloat162float(q[int64_t{i} * row + at]);
    *to = sum;
  }
}

template <int Dim, int kColumns>
struct Tiles {
  alignas(128) bf16 keys[kTokens * Dim];
  alignas(128) bf16 queries[2][kColumns * Dim];  // one is worked on while the other comes
  float logits[kColumns][kTokens + 1];
};

// Blocks: (tiles of kTokens of a page, KV heads, layers * runs * 3): the own page, the leaving one,
// queries.
template <int Dim, int kColumns>
__global__ void __launch_bounds__(kThreads) sum_logits(const Learn a) {
  constexpr int kChunks = Dim / 8;
  constexpr int kTeams = kThreads / kTokens;  // of threads, each with every kTeams-th head
  extern __shared__ __align__(128) unsigned char shared[];
  auto& tiles = *reinterpret_cast<Tiles<Dim, kColumns>*>(shared);
  after_previous();
  const LearnRun& run = a.runs[blockIdx.z / 3 % a.run_count];
  const int layer = static_cast<int>(blockIdx.z) / 3 / a.run_count;
  const bf16* const all_q = a.q + layer * a.layer_q;
  if (blockIdx.z % 3 == 2) {
    sum_queries(a, run, all_q, layer, blockIdx.y * gridDim.x + blockIdx.x, gridDim.x * gridDim.y);
    return;
  }
  const bool own = blockIdx.z % 3 == 0;
  float* sums = own ? run.own_sums : run.leaving_sums;
  if (!sums) return;
  sums += a.logit_offset + int64_t{layer} * a.shape.heads * a.unit;
  const int32_t key_row =
      (own ? run.own_row : run.leaving_row) + a.row_offset + layer * a.layer_rows;
  const int kv_head = blockIdx.y, group = a.shape.group();
  const int first = static_cast<int>(blockIdx.x) * kTokens;
  const int tokens = min((own ? run.own_end : a.unit) - first, kTokens);
  const int queries = run.q_end - run.q_begin;
  if (tokens <= 0 || queries <= 0) return;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;

  const auto chunk_at = [](const bf16* tile, int line, int chunk) {
    return shared_address(tile) + (line * kChunks + swizzle(line, chunk)) * 16;
  };
  const bf16* k = a.arena.base + (int64_t{key_row} + kv_head * a.unit + first) * Dim;
  for (int i = tid; i < kTokens * kChunks; i += kThreads) {
    const int token = i / kChunks, chunk = i % kChunks;
    const bool valid = token < tokens;
    copy_async(chunk_at(tiles.keys, token, chunk), valid ? k + token * Dim + chunk * 8 : k, valid);
  }

  // Queries [begin, end) of the run see this thread's token, for 0 <= distance < window.
  const int token = tid % kTokens;
  const int64_t distance = run.q_position - (own ? run.own_position : run.leaving_position) -
                           first - token;  // of the first query
  const int begin = static_cast<int>(max(int64_t{0}, min(-distance, int64_t{queries})));
  const int end = static_cast<int>(max(int64_t{0}, min(a.window - distance, int64_t{queries})));

  // A wide group takes several rounds of heads.
  for (int base = 0; base < group; base += kColumns) {
    const int heads = min(group - base, kColumns);
    const int per_tile = kColumns / heads;  // queries
    const int first_head = kv_head * group + base;
    const auto load = [&](int query, bf16* to) {
      const int columns = min(per_tile, queries - query) * heads;
      for (int i = tid; i < kColumns * kChunks; i += kThreads) {
        const int column = i / kChunks, chunk = i % kChunks;
        const bool valid = column < columns;
        const int64_t row = run.q_begin + query + (valid ? column / heads : 0);
        const int head = first_head + column % heads;
        copy_async(chunk_at(to, column, chunk),
                   all_q + (row * a.shape.heads + head) * Dim + chunk * 8, valid);
      }
    };
    float mine[kColumns / kTeams];  // of this token, for this thread's heads
#pragma unroll
    for (int j = 0; j < kColumns / kTeams; ++j) {
      const int h = kTeams * j + tid / kTokens;
      const int64_t at = int64_t{first_head + h} * a.unit + first + token;
      mine[j] = h < heads && token < tokens ? sums[at] : 0;
    }
    load(0, tiles.queries[0]);
    commit_copies();
    for (int query = 0, tile = 0; query < queries; query += per_tile, ++tile) {
      if (query + per_tile < queries) load(query + per_tile, tiles.queries[(tile + 1) % 2]);
      commit_copies();
      wait_copies<1>();
      __syncthreads();
      constexpr int kMine = kColumns / 2;  // columns of this warp, from first_column on
      const int first_column = warp % 2 * kMine;
      float out[kMine / 8][4] = {};
#pragma unroll
      for (int kk = 0; kk < Dim / 16; ++kk) {
        uint32_t key[4];
        load_matrices(key, chunk_at(tiles.keys, warp / 2 * 16 + lane % 16, 2 * kk + lane / 16));
#pragma unroll
        for (int j = 0; j < kMine / 8; j += 2) {
          // Of one group of 8 columns, the upper matrices are of no use.
          const int column = kMine == 8 ? lane % 8 : (j + lane / 16) * 8 + lane % 8;
          uint32_t q[4];
          load_matrices(
              q, chunk_at(tiles.queries[tile % 2], first_column + column, 2 * kk + lane / 8 % 2));
          mma(out[j], key, q[0], q[1]);
          if constexpr (kMine > 8) mma(out[j + 1], key, q[2], q[3]);
        }
      }
#pragma unroll
      for (int j = 0; j < kMine / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          tiles.logits[first_column + j * 8 + lane % 4 * 2 + i % 2]
                      [warp / 2 * 16 + lane / 4 + i / 2 * 8] = out[j][i];
      }
      __syncthreads();
      const int from = max(begin, query), to = min(end, min(query + per_tile, queries));
#pragma unroll
      for (int j = 0; j < kColumns / kTeams; ++j) {
        const int h = kTeams * j + tid / kTokens;
        if (kTeams * j >= heads) break;
        if (h < heads)
#pragma unroll 4
          for (int q = from; q < to; ++q)
            mine[j] = fmaf(a.scale, tiles.logits[(q - query) * heads + h][token], mine[j]);
      }
      __syncthreads();
    }
    wait_copies<0>();
#pragma unroll
    for (int j = 0; j < kColumns / kTeams; ++j) {
      const int h = kTeams * j + tid / kTokens;
      if (h < heads && token < tokens)
        sums[int64_t{first_head + h} * a.unit + first + token] = mine[j];
    }
  }
}

}  // namespace

void learn(const Learn& a, cudaStream_t stream) {
  if (a.run_count == 0) return;
  const dim3 grid((a.unit + kTokens - 1) / kTokens, a.shape.kv_heads, 3 * a.run_count * a.layers);
  const auto start = [&](auto dim, auto columns) {
    constexpr int kBytes = sizeof(Tiles<dim(), columns()>);
    const auto kernel = sum_logits<dim(), columns()>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
          "learn");
    launch("learn", kernel, grid, kThreads, kBytes, stream, a);
  };
  by_head_dim(a.shape.head_dim, [&](auto dim) {
    if (a.max_queries == 1) {
      start(dim, std::integral_constant<int, kSmallTile>());
    } else {
      start(dim, std::integral_constant<int, kLargeTile<dim()>>());
    }
  });
}

}  // namespace ringtide::kernels::cuda
