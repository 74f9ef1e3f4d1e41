// One query of each row, split over its lists. The blocks of a row's three lists, in their order,
// are cut into splits by their numbers alone. A thread block takes one split of one KV head, for all
// query heads that read it: they are the rows of the tensor cores' product, so keys are loaded
// once. Its warps take slices of 16 tokens in turn, each with copies of its own in flight and a
// softmax of its own; what the warps, then the splits, have is merged in order.
#include "kernels/cuda/by_head_dim.h"
#include "kernels/cuda/decode_splits_inl.cuh"
#include "kernels/cuda/launch_inl.cuh"
#include "kernels/cuda/mma_inl.cuh"
#include "kernels/cuda/reduce_inl.cuh"
#include "kernels/cuda/visible_inl.cuh"

namespace ringtide::kernels::cuda {
namespace {

constexpr int kSlice = 16;    // tokens
constexpr int kQueries = 16;  // rows of the tensor cores' product; more heads a group: more blocks
// What of a split's block is seen.
struct Part {
  int32_t k_row, v_row;
  int16_t begin, end;
  bool near;
};
constexpr int kStaticBytes = 2048;  // bound of what a block shares beside its stages
static_assert(kMaxBlocks * sizeof(Part) + 2 * 4 * kQueries * sizeof(float) <= kStaticBytes);

template <int Dim, int Stages>
struct Shape {
  static constexpr int kChunks = Dim / 8;
  static constexpr int kWarps = Dim == 256 ? 2 : 4;
  static constexpr int kStages = Stages;
  static constexpr int kPlaneBytes = kSlice * Dim * 2;
  static constexpr int kStageBytes = 2 * kPlaneBytes;  // keys, values
  static constexpr int kQueryBytes = kQueries * Dim * 2;
  static constexpr int kSharedBytes = 2 * kQueryBytes + kWarps * kStages * kStageBytes;
};

// Small: a group of at most 8 heads, whose tiles' lower halves are empty.
template <int Dim, int Stages, bool Small>
__global__ void __launch_bounds__(Shape<Dim, Stages>::kWarps * 32)
    attend_split(const DecodeAttention a, const Partials out, const int max_split) {
  using S = Shape<Dim, Stages>;
  constexpr int kThreads = S::kWarps * 32;
  constexpr int kHalves = Small ? 1 : 2;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ Part parts[kMaxBlocks];
  __shared__ float warp_max_logit[S::kWarps][kQueries], warp_sums[S::kWarps][kQueries];

  const int row = blockIdx.z, split = blockIdx.x;
  const int group = a.shape.group();
  const int tiles = (group + kQueries - 1) / kQueries;
  const int kv_head = blockIdx.y / tiles;
  const int first_head = kv_head * group + blockIdx.y % tiles * kQueries;
  const int heads = min(kQueries, (kv_head + 1) * group - first_head);
  const Lists& lists = a.lists[row];
  // Where there are units, the kernel in front writes nothing else that is read here: the other
  // splits do not wait for it. One block does in any case, so that this kernel ends after that one.
  const bool may_be_early = lists.units.refs;
  if (!may_be_early) wait_for_previous();
  const ListCounts counts = counts_of(lists);
  const Splits splits(counts, a.shape.kv_heads);
  const bool of_units = split >= splits.past;
  const int first = of_units ? counts.past() + (split - splits.past) * splits.unit_blocks
                             : split * splits.past_blocks;
  const int blocks = of_units ? min(splits.unit_blocks, counts.past() + counts.units - first)
                              : min(splits.past_blocks, counts.past() - first);
  const bool keeps_order = may_be_early && split + 1 == gridDim.x && blockIdx.y == 0;
  if (keeps_order || (of_units && blocks > 0)) wait_for_previous();
  let_next_start();
  if (blocks <= 0) return;

  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const uint32_t q_at = shared_address(shared);
  const uint32_t stages_at = q_at + 2 * S::kQueryBytes;
  for (int i = tid; i < 2 * kQueries * S::kChunks; i += kThreads) {
    const int h = i / S::kChunks % kQueries, chunk = i % S::kChunks;
    const bool far = i >= kQueries * S::kChunks, valid = h < heads;
    const bf16* q = far ? a.q_far : a.q_near;
    const int64_t from = (int64_t{row} * a.shape.heads + first_head + h) * Dim + chunk * 8;
    copy_async(q_at + far * S::kQueryBytes + (h * S::kChunks + swizzle(h, chunk)) * 16,
               valid ? q + from : q, valid);
  }
  commit_copies();
  const int64_t position = a.position[row];
  for (int i = tid; i < blocks; i += kThreads) {
    const int at = first + i;
    const bool near = at < counts.near, unit = at >= counts.past();
    const KvRef ref = near   ? lists.near.refs[at]
                      : unit ? lists.units.refs[at - counts.past()]
                             : lists.far.refs[at - counts.near];
    const TokenRange seen = visible(ref.begin, ref.end, ref.position, position,
                                    near ? a.near_band[row] : a.far_band[row]);
    const int offset = (unit ? 0 : a.row_offset) + kv_head * a.unit;
    parts[i] = {ref.k_row + offset, ref.v_row + offset, static_cast<int16_t>(seen.begin),
                static_cast<int16_t>(seen.end), near};
  }
  wait_copies<0>();
  __syncthreads();

  // Slices of the split, counted through all its blocks; this warp's are every kWarps-th.
  const int slices = (a.unit + kSlice - 1) / kSlice;
  struct Place {
    int block, slice;
  };
  const auto advance = [&](Place& p, int by) {
    p.slice += by;
    while (p.slice >= slices) {
      p.slice -= slices;
      ++p.block;
    }
  };
  const auto seen_of = [&](const Place& p) {
    const Part& part = parts[p.block];
    const int begin = p.slice * kSlice;
    return TokenRange{max(part.begin - begin, 0), min(part.end - begin, kSlice)};
  };
  const uint32_t my_stages = stages_at + warp * S::kStages * S::kStageBytes;
  // Tokens that are not seen become zeros: what lies there may be anything.
  const auto load = [&](const Place& p, int stage) {
    if (p.block >= blocks) return;
    const TokenRange seen = seen_of(p);
    if (seen.empty()) return;
    const Part& part = parts[p.block];
    const bf16* k = a.arena.base + (int64_t{part.k_row} + p.slice * kSlice) * Dim;
    const bf16* v = a.arena.base + (int64_t{part.v_row} + p.slice * kSlice) * Dim;
    const uint32_t to = my_stages + stage * S::kStageBytes;
#pragma unroll
    for (int i = 0; i < kSlice * S::kChunks / 32; ++i) {
      const int token = (i * 32 + lane) / S::kChunks, chunk = lane % S::kChunks;
      const bool valid = token >= seen.begin && token < seen.end;
      const uint32_t place = (token * S::kChunks + swizzle(token, chunk)) * 16;
      const int64_t from = token * Dim + chunk * 8;
      copy_async(to + place, valid ? k + from : a.arena.base, valid);
      copy_async(to + S::kPlaneBytes + place, valid ? v + from : a.arena.base, valid);
    }
  };
  const auto chunk_address = [&](uint32_t from, int line, int chunk) {
    return from + (line * S::kChunks + swizzle(line, chunk)) * 16;
  };

  // Of query lane / 4, and lane / 4 + 8: values at columns lane % 4 * 2 and the next.
  float o[Dim / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  const float scale = a.scale * kLog2e;

  Place here{0, warp}, ahead{0, warp};
  advance(here, 0);
  advance(ahead, 0);
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) {
    load(ahead, i);
    commit_copies();
    advance(ahead, S::kWarps);
  }
  for (int stage = 0; here.block < blocks;
       stage = (stage + 1) % S::kStages, advance(here, S::kWarps)) {
    load(ahead, (stage + S::kStages - 1) % S::kStages);
    commit_copies();
    advance(ahead, S::kWarps);
    wait_copies<S::kStages - 1>();
    __syncwarp();
    const TokenRange seen = seen_of(here);
    if (seen.empty()) continue;
    const uint32_t k_at = my_stages + stage * S::kStageBytes, v_at = k_at + S::kPlaneBytes;
    const uint32_t my_q = q_at + (parts[here.block].near ? 0 : S::kQueryBytes);

    float logits[2][4] = {};  // tokens 0..7 and 8..15
#pragma unroll
    for (int kk = 0; kk < Dim / 16; ++kk) {
      uint32_t q[4], k[4];
      load_matrices(q, chunk_address(my_q, lane % 16, 2 * kk + lane / 16));
      load_matrices(k, chunk_address(k_at, lane / 16 * 8 + lane % 8, 2 * kk + lane / 8 % 2));
      mma(logits[0], q, k[0], k[1]);
      mma(logits[1], q, k[2], k[3]);
    }

    float factor[2];
    uint32_t weights[4] = {};
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      float most = top[half];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = i / 2 * 8 + lane % 4 * 2 + i % 2;
        float& x = logits[i / 2][half * 2 + i % 2];
        x = token >= seen.begin && token < seen.end ? x * scale : -INFINITY;
        most = fmaxf(most, x);
      }
      most = warp_max<4>(most);
      factor[half] = exp2f(top[half] - most);
      top[half] = most;
      float p[4], more = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        p[i] = exp2f(logits[i / 2][half * 2 + i % 2] - most);
        more += p[i];
      }
      sum[half] = sum[half] * factor[half] + more;
      weights[half] = pack_bf16(p[0], p[1]);
      weights[half + 2] = pack_bf16(p[2], p[3]);
    }
    // Multiplication by 1 changes nothing.
    if (__any_sync(kAllLanes, factor[0] != 1.0f || (!Small && factor[1] != 1.0f))) {
#pragma unroll
      for (int d = 0; d < Dim / 8; ++d) {
        o[d][0] *= factor[0];
        o[d][1] *= factor[0];
        if constexpr (!Small) {
          o[d][2] *= factor[1];
          o[d][3] *= factor[1];
        }
      }
    }
#pragma unroll
    for (int d = 0; d < Dim / 16; ++d) {
      uint32_t v[4];
      load_matrices_transposed(v, chunk_address(v_at, lane % 16, 2 * d + lane / 16));
      mma(o[2 * d], weights, v[0], v[1]);
      mma(o[2 * d + 1], weights, v[2], v[3]);
    }
    __syncwarp();
  }

  // Each warp's part, in its own stages' place, as (kQueries, Dim) float32.
  static_assert(kQueries * Dim * sizeof(float) <= S::kStages * S::kStageBytes);
  wait_copies<0>();
  __syncwarp();
  auto* const stages = reinterpret_cast<float*>(shared + 2 * S::kQueryBytes);
  constexpr int kWarpFloats = S::kStages * S::kStageBytes / 4;
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    const int query = lane / 4 + 8 * half;
    const float all = warp_sum<4>(sum[half]);
    if (lane % 4 == 0) {
      warp_max_logit[warp][query] = top[half];
      warp_sums[warp][query] = all;
    }
#pragma unroll
    for (int d = 0; d < Dim / 8; ++d) {
      *reinterpret_cast<float2*>(stages + warp * kWarpFloats + query * Dim + d * 8 + lane % 4 * 2) =
          make_float2(o[d][half * 2], o[d][half * 2 + 1]);
    }
  }
  __syncthreads();
  for (int i = tid; i < heads * Dim; i += kThreads) {
    const int query = i / Dim, d = i % Dim;
    float most = -INFINITY;
#pragma unroll
    for (int w = 0; w < S::kWarps; ++w) most = fmaxf(most, warp_max_logit[w][query]);
    float value = 0, total = 0;
#pragma unroll
    for (int w = 0; w < S::kWarps; ++w) {
      const float at = warp_max_logit[w][query];
      const float weight = at == -INFINITY ? 0.0f : exp2f(at - most);
      value += weight * stages[w * kWarpFloats + query * Dim + d];
      total += weight * warp_sums[w][query];
    }
    const int64_t to = (int64_t{row} * a.shape.heads + first_head + query) * max_split + split;
    out.o[to * Dim + d] = value;
    if (d == 0) out.stats[to] = make_float2(most, total);
  }
}

template <int Dim, int Stages, bool Small>
void start(const DecodeAttention& a, const Partials& partials, int splits, cudaStream_t stream) {
  using S = Shape<Dim, Stages>;
  const auto kernel = attend_split<Dim, Stages, Small>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes),
        "decode_attention");
  const int tiles = (a.shape.group() + kQueries - 1) / kQueries;
  launch("decode_attention", kernel, dim3(splits, a.shape.kv_heads * tiles, a.rows), S::kWarps * 32,
         S::kSharedBytes, stream, a, partials, splits);
  merge_splits(a, partials, splits, stream);
}

// More stages keep more loads in flight, and change no bit; not every GPU since 8.0 has room for
// them.
bool has_shared_memory(int bytes) {
  int device = 0, most = 0;
  check(cudaGetDevice(&device), "decode_attention");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "decode_attention");
  return bytes <= most;
}

template <int Dim, bool Small>
void start(const DecodeAttention& a, const Partials& partials, int splits, cudaStream_t stream) {
  constexpr int kFew = Dim == 64 ? 4 : 2, kMore = Dim == 128 ? 3 : kFew;
  if (has_shared_memory(Shape<Dim, kMore>::kSharedBytes + kStaticBytes)) {
    start<Dim, kMore, Small>(a, partials, splits, stream);
  } else {
    start<Dim, kFew, Small>(a, partials, splits, stream);
  }
}

}  // namespace

int64_t decode_attention_scratch(const Heads& shape, int32_t rows, int32_t max_blocks) {
  return int64_t{rows} * shape.heads * max_splits(max_blocks, max_blocks, shape.kv_heads) *
         (shape.head_dim + 2);
}

void decode_attention(const DecodeAttention& a, cudaStream_t stream) {
  if (a.rows == 0) return;
  const int splits = max_splits(a.max_near + a.max_far, a.max_units, a.shape.kv_heads);
  const int64_t queries = int64_t{a.rows} * a.shape.heads;
  by_head_dim(a.shape.head_dim, [&](auto dim) {
    const Partials partials{a.scratch,
                            reinterpret_cast<float2*>(a.scratch + queries * splits * dim())};
    if (a.shape.group() <= 8) {
      start<dim(), true>(a, partials, splits, stream);
    } else {
      start<dim(), false>(a, partials, splits, stream);
    }
  });
}

}  // namespace ringtide::kernels::cuda
