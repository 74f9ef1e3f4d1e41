#include "kernels/cuda/check.h"
#include "kernels/cuda/ring_decode.h"

namespace ringtide::kernels::cuda {
namespace {

// A part is o (queries, head_dim), then lse (queries).
int64_t part_floats(const Heads& shape, int32_t rows) {
  return int64_t{rows} * shape.heads * (shape.head_dim + 1);
}

// One block a query and head, one thread a dimension.
__global__ void merge_parts(const float* parts, int64_t part, int shards, int64_t queries, bf16* o,
                            float* lse) {
  const int64_t query = blockIdx.x;
  const int dim = blockDim.x, d = threadIdx.x;
  const auto lse_of = [&](int s) { return parts[s * part + queries * dim + query]; };
  float most = -INFINITY;
  for (int s = 0; s < shards; ++s) most = fmaxf(most, lse_of(s));
  float total = 0, value = 0;
  for (int s = 0; most > -INFINITY && s < shards; ++s) {
    const float weight = expf(lse_of(s) - most);
    total += weight;
    value += weight * parts[s * part + query * dim + d];
  }
  o[query * dim + d] = __float2bfloat16_rn(total > 0 ? value / total : 0);
  if (lse && d == 0) lse[query] = total > 0 ? most + logf(total) : -INFINITY;
}

}  // namespace

int64_t ring_decode_floats(const Heads& shape, int32_t rows, int shards) {
  return part_floats(shape, rows) * (shards + 1);
}

void ring_decode(const RingDecode& a, uint64_t number, RingLink& link, cudaStream_t stream) {
  const Heads& shape = a.local.shape;
  const int64_t queries = int64_t{a.local.rows} * shape.heads;
  const int64_t part = part_floats(shape, a.local.rows);
  float* const all = a.exchange + part;
  DecodeAttention local = a.local;
  local.o32 = a.exchange;
  local.lse = a.exchange + queries * shape.head_dim;
  decode_attention(local, stream);
  link.gather(number, a.exchange, part * sizeof(float), all, stream);
  if (queries == 0) return;
  merge_parts<<<static_cast<unsigned>(queries), shape.head_dim, 0, stream>>>(
      all, part, link.shards(), queries, a.o, a.lse);
  check_launch("ring_decode");
}

}  // namespace ringtide::kernels::cuda
