// A ring prefill on GPUs: one layer of one shard, after a plan of pass-KV (kernels/ring/plan.h).
//
// While a hop's keys and values are attended to, the next ones arrive in the other of two buffers,
// on a stream of their own. Partial results stay in float32 and go through the attention kernel
// itself: no pass of merging.
//
// Tiles of equally many keys rarely divide evenly among a GPU's multiprocessors. So the earliest
// run of queries keeps its own keys, whose tiles become ever shorter, for the end, and runs beside
// the last hop of the others, wherever a multiprocessor becomes free.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ring_link.h"
#include "kernels/ring/plan.h"

namespace ringtide::kernels::cuda {

struct RingPrefillOptions {
  Heads shape;
  float scale = 0;  // logit = scale * q.k
  Arena arena;
  int64_t receive_row = 0;   // of the arena: ring_prefill_rows() rows that are the ring's
  float* scratch = nullptr;  // ring_prefill_scratch() floats, 16-byte aligned
};

int64_t ring_prefill_rows(const ring::Plan& plan, const Heads& shape);
int64_t ring_prefill_scratch(const ring::Plan& plan, const Heads& shape);

// The shard's part of one layer.
struct RingLayer {
  int64_t kv_row = 0;  // arena row of the shard's blocks, in order without gaps: of each the plane
                       // of keys, rotated, then that of values
  const bf16* q = nullptr;  // (plan.queries, heads, head_dim), rotated
  int64_t q_stride = 0;     // elements between queries
  bf16* o = nullptr;        // (plan.queries, heads, head_dim)
  float* lse = nullptr;     // (plan.queries, heads)
};

class RingPrefill {
 public:
  // Uploads the plan's lists. Throws std::invalid_argument for a plan that is not pass-KV.
  RingPrefill(const ring::Plan& plan, const RingPrefillOptions& options);
  ~RingPrefill();

  // Enqueues on `stream`, and on streams of its own that begin and end with it. Takes the link's
  // numbers from `number` on and returns the next one, the same on every shard. Whether all went
  // well is known after link.finish(stream).
  uint64_t run(const RingLayer& layer, uint64_t number, RingLink& link, cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ringtide::kernels::cuda
