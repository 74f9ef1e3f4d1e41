// Passes over whole blocks of one context: products over all rows, attention block by block.
//
// The engine's thread only.
#pragma once

#include <span>
#include <vector>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_context.h"
#include "model/gpu_dense.h"
#include "model/gpu_inputs.h"
#include "model/gpu_lookup.h"

namespace ringtide::model {

class GpuBlocks {
 public:
  // `rows`: most tokens of a pass.
  GpuBlocks(kernels::Gpu& gpu, const ModelConfig& config, GpuDense& dense, GpuHome& home,
            UnitStore& store, int32_t rows);

  // Blocks longer than a token. Throws LostUnits: the context is to be made again, and the pass run
  // again.
  void prefill(GpuContext& context, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths);
  GpuLookup& lookup() { return lookup_; }

  static int64_t bytes(const ModelConfig& config, int32_t rows);

 private:
  // What a block reads, and the units that its end seals.
  struct Block {
    int64_t begin, end;
    int32_t row;  // of its first token
    size_t near, near_end, far_end, run, run_end;
    int64_t sealed, seals_end;
  };
  struct Plan;    // of a pass: its blocks and their lists
  struct Inputs;  // the same on the device

  Plan plan(const GpuContext& context, int64_t tokens, std::span<const int32_t> lengths) const;
  Inputs send(GpuContext& context, const Plan& plan, std::span<const TokenId> tokens);
  void look_up(GpuContext& context, const Inputs& in, int32_t block, int layer,
               GpuContext* careful);
  void attend(const GpuContext& context, const Plan& plan, const Inputs& in, int32_t block,
              int layer, bool looks_up);
  void learn(GpuContext& context, const Plan& plan, Inputs& in, int32_t block, int layer);

  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  GpuDense& dense_;
  GpuHome& home_;
  const kernels::cuda::Heads shape_;
  GpuBuffer x_;                           // (rows, hidden) float32: residual stream
  GpuBuffer q_near_, q_far_, q_raw_, o_;  // (rows, heads * head_dim)
  GpuBuffer mean_;                        // (blocks, heads * head_dim)
  GpuInputs inputs_;
  GpuLookup lookup_;
};

}  // namespace ringtide::model
