// The forward pass of one shard of a ring of GPUs, under `exact`. All shards make the same calls in
// the same order.
//
// Many tokens are split: a shard computes the rows of the tokens placed on it, and the keys and
// values of the others pass by, layer by layer, while it attends to those that are here
// (kernels/ring). Few tokens are computed by every shard, each attends with what it holds, and the
// partial results are merged: all shards then have the same rows, bit for bit.
//
// A token's result follows from its sequence's blocks alone, not from what ran with it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/gpu.h"
#include "kernels/ring/plan.h"
#include "model/gpu_angles.h"
#include "model/gpu_buffer.h"
#include "model/gpu_dense.h"
#include "model/gpu_inputs.h"
#include "model/gpu_ring.h"
#include "model/gpu_ring_context.h"
#include "model/gpu_ring_link.h"
#include "model/gpu_sampler.h"

namespace ringtide::model {

class GpuRingPasses {
 public:
  // Most tokens of together().
  static constexpr int32_t kTogether = 2 * GpuRingMemory::kPage;

  // `pass_rows`: the most of its own rows that a shard has in split(), rows_of_pass().
  GpuRingPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights,
                GpuRingMemory& memory, GpuAngles& angles, GpuRingLink& ring,
                const GpuRingOptions& options, int32_t pass_rows);

  // Tokens from a page's beginning on, which have their places and are the context's last. Waits
  // for the pass: it throws RingError.
  void split(GpuRingContext& context, int64_t first, std::span<const TokenId> tokens);
  // At most kTogether tokens.
  void together(GpuRingContext& context, int64_t first, std::span<const TokenId> tokens);
  struct Row {
    GpuRingContext* context;
    TokenId token;
  };
  // One token each of at most kFewRows contexts, which have their places.
  void decode(std::span<const Row> rows);

  // Logits after a context's last token, (vocabulary), on the device until the next call.
  float* logits(GpuRingContext& context);
  void sample(std::span<GpuRingContext* const> contexts, std::span<const SamplingParams> params,
              std::span<TokenId> tokens);
  // Waits for all that was enqueued. Throws RingError.
  void finish() { ring_.finish(); }
  void forget(const GpuRingContext& context);  // it goes away

  static int32_t rows_of_pass(int32_t pass_tokens, int shards);
  static int64_t bytes(const ModelConfig& config, int32_t pass_rows, int shards);
  // What grows with each block of memory: the lists of blocks that passes read.
  static int64_t bytes_of_block(int shards);

 private:
  using bf16 = kernels::cuda::bf16;
  static constexpr int32_t kVisitors = 32 * GpuRingMemory::kPage;
  static int32_t visitors(int32_t pass_rows, int shards);
  static constexpr int32_t kLeastNear = 8;  // of a list's bound
  struct Split;
  struct Step;
  struct Bounds {
    int32_t rows, near;
    auto operator<=>(const Bounds&) const = default;
  };

  kernels::cuda::Qkv places(int layer, const kernels::cuda::TokenPlace* place);
  kernels::cuda::PrefillAttention attention();
  bool queries_pass(const GpuRingContext& context, kernels::ring::Tokens fresh) const;
  void pass_keys(const Split& split, int layer);
  void pass_queries(const Split& split, int layer);
  void merge(int32_t rows);
  static int64_t step_bytes(int32_t near);
  static int64_t split_bytes(int64_t rows, int64_t refs, int shards);
  Step describe(std::span<const Row> rows, const Bounds& bounds);
  void run(const Step& step);

  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  GpuRingMemory& memory_;
  GpuAngles& angles_;
  GpuRingLink& ring_;
  const int shard_, shards_;
  const kernels::cuda::Heads shape_;
  const std::optional<kernels::ring::Mode> only_;
  const kernels::ring::Rates rates_;

  GpuDense dense_;
  // Activations, (rows, ...).
  GpuBuffer x_;        // hidden, float32: residual stream
  GpuBuffer step_x_;   // the same of a decode step
  GpuBuffer q_;        // heads * head_dim, rotated
  GpuBuffer o_;        // heads * head_dim
  GpuBuffer partial_;  // heads * head_dim, float32: of the blocks that were here so far
  GpuBuffer lse_;      // heads
  // As q_, partial_, lse_ and o_, of queries that came from the other shard: kVisitors rows.
  GpuBuffer q_there_, partial_there_, lse_there_, o_there_;
  GpuBuffer last_;                  // hidden, float32, of each shard
  GpuBuffer work_;                  // PrefillAttention::work
  GpuBuffer step_logits_, logits_;  // vocabulary, float32
  GpuBuffer attention_scratch_;     // of decode attention
  GpuInputs block_inputs_, step_inputs_;
  GpuSampler sampler_;
  std::unique_ptr<kernels::Gpu::Event> kv_ready_, attended_[2], arrived_[2];
  // Whose rows the last step's logits are; null: gone.
  std::vector<GpuRingContext*> step_rows_;
  std::map<Bounds, std::unique_ptr<kernels::Gpu::Graph>> graphs_;  // null: run once, not captured
};

}  // namespace ringtide::model
