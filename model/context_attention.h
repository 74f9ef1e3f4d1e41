// One layer's attention of one block: near part, far part, and what the index learns from it.
//
// Every key of the prefix is seen by a query exactly once or not at all:
//   near: pages not sealed, distance < window;
//   far:  distance >= window, of sinks, of pages not sealed ("overflow"), of selected units.
// Under policies of true distance, far and near share one rotation and overflow counts as near.
//
// In a layer that slides a window of its own, a query sees the keys in that window at their true
// distance and no others, whatever the policy: no sinks, no lookup. A window longer than the
// policy's reaches into sealed units, and these are read like selected ones.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "model/context.h"
#include "model/group_reader.h"
#include "model/unit_rotations.h"

namespace ringtide::model {

class ContextAttention {
 public:
  ContextAttention(UnitCache& cache, UnitStore& store, kernels::ThreadPool& threads,
                   const Recover& recover)
      : cache_(cache), threads_(threads), recover_(recover), groups_(cache, store, recover) {}

  // q (m, heads, head_dim) of the block begun in `context`, before RoPE; the layer's keys and
  // values are put already. Writes o (m, heads, head_dim). q is left rotated.
  void run(Context& context, int layer, float* q, float* o);

 private:
  void learn(Context& context, int layer, const float* q);
  void near(Context& context, int layer, std::vector<kernels::KvBlock>& blocks) const;
  void far_pages(Context& context, int layer, std::vector<kernels::KvBlock>& blocks) const;
  void units(Context& context, int layer, std::span<const int64_t> units,
             std::vector<kernels::KvBlock>& blocks);
  void slide(Context& context, int layer, float* q, float* o);
  void merge_far(Context& context, int layer, const float* q, kernels::Band band, float* o);
  void select(Context& context, int layer, const float* q, std::vector<int64_t>& units);

  UnitCache& cache_;
  kernels::ThreadPool& threads_;
  Recover recover_;
  GroupReader groups_;
  std::vector<kernels::KvBlock> blocks_;
  UnitRotations rotations_, sliding_rotations_;
  std::vector<UnitCache::Want> wants_;
  std::vector<int64_t> units_;
  std::vector<float> far_q_, o2_, lse_, lse2_, mean_, scratch_;
};

}  // namespace ringtide::model
