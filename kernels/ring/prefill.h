// A ring prefill on CPUs: one layer of one shard, after a plan.
#pragma once

#include <vector>

#include "kernels/attention.h"
#include "kernels/ring/plan.h"
#include "kernels/ring/transport.h"

namespace ringtide::kernels::ring {

struct LayerShape {
  HeadShape heads;
  KvType type = KvType::F32;
  float scale = 0;  // logit = scale * q.k
};

class Prefill {
 public:
  Prefill(Plan plan, const LayerShape& shape);

  // kv: the shard's blocks in order, each K then V, (kv_heads, unit, head_dim) each; keys rotated
  // to their positions. q (plan.queries, heads, head_dim), rotated. Writes o, as q, and lse
  // (plan.queries, heads). Takes the numbers from `number` on of the transport and returns the next
  // one, the same on every shard. Throws RingError.
  uint64_t run(const void* kv, const float* q, float* o, float* lse, uint64_t number,
               Transport& transport, ThreadPool& threads);

 private:
  void pass_kv(const void* kv, const float* q, float* o, float* lse, uint64_t number,
               Transport& transport, ThreadPool& threads);
  void pass_q(const void* kv, const float* q, float* o, float* lse, uint64_t number,
              Transport& transport, ThreadPool& threads);
  // (o, lse) = the attention of the queries that are here; of none: (0, -inf).
  void attend_hop(const Hop& hop, int64_t queries, const std::byte* kv, const float* q, float* o,
                  float* lse, ThreadPool& threads);

  Plan plan_;
  LayerShape shape_;
  int64_t block_bytes_, row_;  // row: values of a query
  std::vector<KvBlock> blocks_;
  std::vector<std::byte> kv_here_[2];  // blocks that visit
  std::vector<float> q_here_[2];       // queries that visit
  std::vector<float> here_;            // (o, lse) of what is here
  std::vector<float> sent_, came_;     // partial results that go on, that come
};

}  // namespace ringtide::kernels::ring
