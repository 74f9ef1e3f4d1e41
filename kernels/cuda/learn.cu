// Keys are the rows of the tensor cores' product, and (query, head of the group) its columns, query
// by query. Sums are then taken column after column, one thread a token and head: by query, in
// order.
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/learn.h"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/visible.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTokens = 64;  // keys of a block: 16 a warp
// Columns of a tile: what 48 KiB of shared memory hold.
template <int Dim>
constexpr int kTileColumns = Dim == 256 ? 16 : 32;

// query_sum += the queries of a run, one thread a value.
__global__ void sum_queries(const Learn a) {
  const LearnRun& run = a.runs[blockIdx.y];
  const int row = a.shape.heads * a.shape.head_dim;
  const int at = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (!run.query_sum || at >= row) return;
  float* const to = run.query_sum + a.sum_offset + at;
  float sum = *to;
#pragma unroll 8
  for (int i = run.q_begin; i < run.q_end; ++i) sum += __bfloat162float(a.q[int64_t{i} * row + at]);
  *to = sum;
}

// Blocks: (tiles of kTokens of a page, KV heads, runs * 2): the own page, then the leaving one.
template <int Dim>
__global__ void __launch_bounds__(kThreads) sum_logits(const Learn a) {
  constexpr int kChunks = Dim / 8;
  constexpr int kColumns = kTileColumns<Dim>;
  __shared__ __align__(128) bf16 keys[kTokens * Dim];
  __shared__ __align__(128) bf16 queries[kColumns * Dim];
  __shared__ float logits[kColumns][kTokens + 1];
  const LearnRun& run = a.runs[blockIdx.z / 2];
  const bool own = blockIdx.z % 2 == 0;
  float* sums = own ? run.own_sums : run.leaving_sums;
  if (!sums) return;
  sums += a.logit_offset;
  const int32_t key_row = (own ? run.own_row : run.leaving_row) + a.row_offset;
  const int64_t key_position = own ? run.own_position : run.leaving_position;
  const int kv_head = blockIdx.y, group = a.shape.group();
  const int first = static_cast<int>(blockIdx.x) * kTokens;
  const int tokens = min((own ? run.own_end : a.unit) - first, kTokens);
  if (tokens <= 0) return;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;

  const auto chunk_at = [](const bf16* tile, int line, int chunk) {
    return shared_address(tile) + (line * kChunks + swizzle(line, chunk)) * 16;
  };
  const bf16* k = a.arena.base + (int64_t{key_row} + kv_head * a.unit + first) * Dim;
  for (int i = tid; i < kTokens * kChunks; i += kThreads) {
    const int token = i / kChunks, chunk = i % kChunks;
    const bool valid = token < tokens;
    copy_async(chunk_at(keys, token, chunk), valid ? k + token * Dim + chunk * 8 : k, valid);
  }

  const Band band{0, a.window - 1};
  const int columns = (run.q_end - run.q_begin) * group;
  const int tile_queries = kColumns / group > 0 ? kColumns / group : 1;
  const int tile_columns = tile_queries * group;  // whole queries where they fit, else parts of one
  for (int start = 0; start < columns;) {
    // A tile ends with a query, but where a group is wider than a tile.
    const int width = group > kColumns ? min(kColumns, group - start % group) : tile_columns;
    const int n = min(width, columns - start);
    for (int i = tid; i < kColumns * kChunks; i += kThreads) {
      const int column = i / kChunks, chunk = i % kChunks;
      const bool valid = column < n;
      const int at = valid ? start + column : 0;
      const int64_t query = run.q_begin + at / group;
      const int head = kv_head * group + at % group;
      copy_async(chunk_at(queries, column, chunk),
                 a.q + (query * a.shape.heads + head) * Dim + chunk * 8, valid);
    }
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    float out[kColumns / 8][4] = {};
#pragma unroll
    for (int kk = 0; kk < Dim / 16; ++kk) {
      uint32_t key[4];
      load_matrices(key, chunk_at(keys, warp * 16 + lane % 16, 2 * kk + lane / 16));
#pragma unroll
      for (int j = 0; j < kColumns / 8; j += 2) {
        uint32_t q[4];
        load_matrices(q, chunk_at(queries, (j + lane / 16) * 8 + lane % 8, 2 * kk + lane / 8 % 2));
        mma(out[j], key, q[0], q[1]);
        mma(out[j + 1], key, q[2], q[3]);
      }
    }
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        logits[j * 8 + lane % 4 * 2 + i % 2][warp * 16 + lane / 4 + i / 2 * 8] = out[j][i];
    }
    __syncthreads();
    const int heads = min(group, n);  // of this tile
    for (int i = tid; i < heads * kTokens; i += kThreads) {
      const int token = i % kTokens, h = i / kTokens;
      if (token >= tokens) continue;
      const int head = kv_head * group + (start + h) % group;
      float* const to = sums + int64_t{head} * a.unit + first + token;
      float sum = *to;
      for (int column = h; column < n; column += group) {
        const int64_t position = run.q_position + (start + column) / group;
        const bool seen =
            !visible(first + token, first + token + 1, key_position, position, band).empty();
        if (seen) sum += a.scale * logits[column][token];
      }
      *to = sum;
    }
    __syncthreads();
    start += n;
  }
}

}  // namespace

void learn(const Learn& a, cudaStream_t stream) {
  if (a.run_count == 0) return;
  const int row = a.shape.heads * a.shape.head_dim;
  sum_queries<<<dim3((row + kThreads - 1) / kThreads, a.run_count), kThreads, 0, stream>>>(a);
  const dim3 grid((a.unit + kTokens - 1) / kTokens, a.shape.kv_heads, 2 * a.run_count);
  by_head_dim(a.shape.head_dim,
              [&](auto dim) { sum_logits<dim()><<<grid, kThreads, 0, stream>>>(a); });
  check_launch("learn");
}

}  // namespace ringtide::kernels::cuda
