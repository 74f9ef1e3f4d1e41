// One sequence on a ring of GPUs, as one shard holds it: where every token's keys and values are,
// and those of the shard's own tokens.
//
// Every execution block is dealt among the shards (kernels/ring/placement.h), so which shard has a
// token follows from the blocks' lengths alone. The engine's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/ring/placement.h"
#include "model/engine.h"
#include "model/gpu_angles.h"
#include "model/gpu_buffer.h"
#include "model/gpu_ring_memory.h"
#include "model/history.h"

namespace ringtide::model {

class GpuRingContext {
 public:
  GpuRingContext(const History& empty, kernels::Gpu& gpu, GpuRingMemory& memory, GpuAngles& angles,
                 int shard, int shards, int32_t hidden);
  ~GpuRingContext();
  GpuRingContext(const GpuRingContext&) = delete;

  // A block more has its places. Throws OutOfBudget, on all shards alike.
  void grow(int64_t tokens);
  // It has run.
  void finish(std::span<const TokenId> block) { history_.add(block); }

  int64_t processed() const { return history_.tokens(); }
  const History& history() const { return history_; }
  const kernels::ring::Placement& placement() const { return placement_; }
  // Where a token's keys and values go, of layer 0: -1 on shards that it is not placed on.
  kernels::cuda::TokenPlace place(int64_t position) const;
  // The shard's blocks of tokens below `end`.
  void refs(int64_t end, std::vector<kernels::cuda::KvRef>& refs) const;
  // Those of another shard's blocks, as they lie one after the other from a row on.
  void visiting_refs(int visitor, int32_t row, std::vector<kernels::cuda::KvRef>& refs) const;
  const std::vector<int64_t>& blocks() const { return blocks_; }  // of memory, in order

  GpuAngles::Own& angles() { return angles_; }
  float* hidden() const { return hidden_.full(); }  // residual row of the last token

 private:
  kernels::cuda::KvRef ref(int64_t page, int32_t row, int64_t end) const;

  GpuRingMemory& memory_;
  const int shard_;
  kernels::ring::Placement placement_;
  History history_;
  std::vector<int64_t> blocks_;    // of memory: of placement_.blocks_of(shard_)
  std::vector<int64_t> reserved_;  // by shard
  GpuAngles::Own angles_;
  GpuBuffer hidden_;
};

}  // namespace ringtide::model
