// Passes over whole blocks of one context: products over all rows, attention block by block.
//
// Shards of a ring share the rows of a long pass: each makes the products of its own, queries, keys
// and values then go to all, and all attend with all queries, each to its pages. The bits are those
// of a shard that makes all products.
//
// The engine's thread only.
#pragma once

#include <span>
#include <vector>

#include "kernels/gpu.h"
#include "model/gpu_attended.h"
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

  static int64_t bytes(const ModelConfig& config, int32_t rows, bool ring);

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

  static constexpr int32_t kLeastShared = 128;  // rows of a pass that is shared
  // Rows whose products are this shard's.
  struct Own {
    bool shared = false;
    int64_t begin = 0, rows = 0, most = 0;  // most: of any shard
  };
  Own own_rows(int32_t rows) const;
  void before_attention(int layer, const Own& own, int32_t rows, kernels::cuda::Qkv split);
  void keep_hidden(GpuContext& context, const Own& own, int32_t rows);
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
  GpuBuffer x_;                       // (rows, hidden) float32: residual stream
  GpuBuffer q_near_, q_far_, q_raw_;  // (rows, heads * head_dim)
  GpuAttended o_;                        // of (rows)
  GpuBuffer mean_;                    // (blocks, heads * head_dim)
  // Of a ring: rows of products, this shard's and, with room to spare, all; rows of x_ of all shards.
  GpuBuffer own_qkv_, qkv_, last_;
  GpuInputs inputs_;
  GpuLookup lookup_;
};

}  // namespace ringtide::model
