// Where attention leaves its results: those of an engine alone at once, those of a shard of a ring
// once its parts have been merged with the others'. The engine's thread.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_ring_link.h"

namespace ringtide::model {

class GpuAttended {
 public:
  // `ring`: null: alone.
  GpuAttended(kernels::Gpu& gpu, GpuRingLink* ring, const kernels::cuda::Heads& shape, int64_t rows)
      : ring_(ring),
        shape_(shape),
        o_(gpu, rows * row(shape) * 2),
        part_(gpu, ring ? rows * row(shape) * 4 : 0),
        lse_(gpu, ring ? rows * shape.heads * 4 : 0) {}

  // Sets where PrefillAttention or DecodeAttention writes its rows, from this one on.
  template <class Attention>
  void take(Attention& a, int64_t row) const {
    if (!ring_) {
      a.o = o_.half(row * this->row(shape_));
      return;
    }
    a.o32 = part_.full(row * this->row(shape_));
    a.lse = lse_.full(row * shape_.heads);
  }
  // All rows [0, rows) have been attended to, on every shard. Returns (rows, heads, head_dim).
  kernels::cuda::bf16* whole(int32_t rows) {
    if (ring_)
      ring_->merge({.shape = shape_,
                    .rows = rows,
                    .o = part_.full(),
                    .lse = lse_.full(),
                    .merged = o_.half()});
    return o_.half();
  }

  static int64_t bytes(const kernels::cuda::Heads& shape, int64_t rows, bool ring) {
    return rows * (2 * row(shape) + (ring ? 4 * (row(shape) + shape.heads) : 0));
  }

 private:
  static int64_t row(const kernels::cuda::Heads& shape) {
    return int64_t{shape.heads} * shape.head_dim;
  }

  GpuRingLink* const ring_;
  const kernels::cuda::Heads shape_;
  const GpuBuffer o_;           // bf16
  const GpuBuffer part_, lse_;  // of a ring, float32: of what is here
};

}  // namespace ringtide::model
