#include "kernels/cuda/ring_decode.h"

namespace ringtide::kernels::cuda {

void ring_decode(const RingDecode& a, RingLink& link, cudaStream_t stream) {
  RingMerge merge;
  merge.shape = a.local.shape;
  merge.rows = a.local.rows;
  merge.o = a.part;
  merge.lse = a.part + merge.queries() * merge.shape.head_dim;
  merge.merged = a.o;
  merge.merged_lse = a.lse;
  DecodeAttention local = a.local;
  local.o32 = a.part;
  local.lse = a.part + merge.queries() * merge.shape.head_dim;
  decode_attention(local, stream);
  link.merge(merge, stream);
}

}  // namespace ringtide::kernels::cuda
