// The forward pass on the device: blocks of one context at a time, or one token each of several.
//
// Which of the two a token takes follows from its block's length alone, and in both its result
// depends on its own sequence alone: batches and passes of any composition give the same bits.
//
// The engine's thread only.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/gpu.h"
#include "model/gpu_angles.h"
#include "model/gpu_buffer.h"
#include "model/gpu_context.h"
#include "model/gpu_inputs.h"
#include "model/gpu_lookup.h"
#include "model/gpu_weights.h"

namespace ringtide::model {

class GpuPasses {
 public:
  // `pass_rows`: most tokens of a prefill().
  GpuPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights, GpuHome& home,
            UnitStore& store, int32_t pass_rows);

  // Runs whole blocks of one context, each longer than a token. Throws LostUnit: the context is to
  // be made again, and the pass run again.
  void prefill(GpuContext& context, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths);
  struct Row {
    GpuContext* context;
    TokenId token;
  };
  // At most kFewRows of different contexts with the same policy. Where a context's units are not
  // all in memory it must be the only one; then it throws as prefill().
  void decode(std::span<const Row> rows);

  // Logits after a context's last token, (vocabulary), on the device until the next call.
  float* logits(GpuContext& context);
  void sample(std::span<GpuContext* const> contexts, std::span<const SamplingParams> params,
              std::span<TokenId> tokens);
  // Waits for the last pass, and tells contexts which units they used.
  void settle();
  void forget(const GpuContext& context);  // it goes away

  static int64_t bytes(const ModelConfig& config, int32_t pass_rows);
  int32_t pass_rows() const { return pass_rows_; }

 private:
  using bf16 = kernels::cuda::bf16;
  struct Step;      // what a decode step reads
  struct Prepared;  // the next one's, sent before it is asked for
  struct Bounds {
    int32_t rows, near, far, sealed, select;
    bool represents;
    int32_t unit, window;
    int vote, kind;
    auto operator<=>(const Bounds&) const = default;
  };

  struct StepGraphs {  // null: run once, not captured
    std::unique_ptr<kernels::Gpu::Graph> first, rest;
  };

  Bounds bounds(std::span<const Row> rows) const;
  Step describe(std::span<const Row> rows, const Bounds& bounds);
  void run_prepared(std::span<const Row> rows);
  void run_described(std::span<const Row> rows, const Bounds& bounds);
  void run(const Step& step, GpuContext* careful, int first, int end);
  std::unique_ptr<kernels::Gpu::Graph> captured(const Step& step, int first, int end);
  void launch(StepGraphs& graphs);
  void collect();
  void prepare(std::span<GpuContext* const> contexts);
  bool prepared_for(std::span<const Row> rows, const Bounds& bounds) const;
  void represent_sealed(std::span<const Row> rows);
  void keep_hidden(std::span<const Row> next);
  void product(const bf16* x, const bf16* w, int64_t rows, int64_t n, int64_t k, bf16* y,
               float* y32, kernels::cuda::Write write, bool few);
  void feed_forward(const GpuLayerWeights& w, int64_t rows, float* x, bool few);
  kernels::cuda::Qkv qkv(const GpuContext& any, const GpuLayerWeights& w, int layer, int64_t rows);

  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  const GpuWeights& weights_;
  GpuHome& home_;
  const int32_t pass_rows_;
  const kernels::cuda::Heads shape_;
  const float scale_;  // of logits of attention

  // Activations, (rows, ...).
  GpuBuffer x_;                                   // hidden, float32: residual stream of a prefill
  GpuBuffer step_x_;                              // the same of a decode step
  GpuBuffer h_;                                   // hidden: normed
  GpuBuffer qkv_;                                 // (heads + 2 kv_heads) * head_dim
  GpuBuffer q_near_, q_far_, q_raw_, attention_;  // heads * head_dim
  GpuBuffer gate_up_;                             // 2 ffn
  GpuBuffer gated_;                               // ffn
  GpuBuffer mean_;                                // heads * head_dim, of a block or a row
  GpuBuffer step_logits_, logits_;                // vocabulary, float32
  GpuBuffer product_scratch_, attention_scratch_, sample_scratch_, sampled_;

  GpuInputs block_inputs_, step_inputs_, seal_inputs_, sample_inputs_;
  GpuLookup lookup_;
  // Whose rows the last step's hidden states and logits are; null: gone.
  std::vector<GpuContext*> step_rows_;
  bool step_logits_valid_ = false;
  // Whose units the last pass's lookups chose, to be told.
  struct Choice {
    GpuContext* context;
    int32_t set, row;
  };
  std::vector<Choice> to_collect_;
  struct ReleaseHost {
    kernels::Gpu* gpu;
    void operator()(int32_t* p) const { gpu->release_host(p); }
  };
  std::unique_ptr<int32_t, ReleaseHost> sampled_host_;
  const std::unique_ptr<kernels::Gpu::Event> sampled_there_;
  int64_t tick_ = 0;
  std::map<Bounds, StepGraphs> graphs_;
  std::shared_ptr<const Prepared> prepared_;
};

}  // namespace ringtide::model
