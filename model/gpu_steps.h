// Decode steps: one token each of several contexts, as a graph.
//
// While sampled tokens are on their way to the host, the step that most likely follows, the same
// contexts one token on, is described, and, as long as what was expected came, started: sampled
// tokens go from step to step on the device. A step that is started and then does not follow has
// changed nothing that counts: keys and values beyond the past, slots, which are a cache. What its
// queries teach the index is added when the step is asked for.
//
// A step of one context guesses each layer's lookup from what comes into the layer before, and
// brings the units of the guess meanwhile, as many as come before the lookup itself, which then finds
// most of what it chooses in slots.
//
// The engine's thread only.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_context.h"
#include "model/gpu_dense.h"
#include "model/gpu_inputs.h"
#include "model/gpu_lookup.h"
#include "model/gpu_sampler.h"

namespace ringtide::model {

class GpuGuess;

class GpuSteps {
 public:
  GpuSteps(kernels::Gpu& gpu, const ModelConfig& config, const GpuWeights& weights, GpuDense& dense,
           GpuHome& home, UnitStore& store);
  ~GpuSteps();

  struct Row {
    GpuContext* context;
    TokenId token;
  };
  // At most kFewRows of different contexts with the same policy. Where a context's units are not
  // all in memory it must be the only one; then it throws LostUnits: the context is to be made
  // again.
  void decode(std::span<const Row> rows);

  // Logits (vocabulary) after a context's last token, and the residual row that they come from:
  // null where the last step was not its, or they are gone.
  float* logits(const GpuContext& context);
  const float* hidden(const GpuContext& context);
  void logits_changed() { logits_valid_ = false; }

  // The tokens of these contexts have been sampled: on the device, and soon on the host.
  void expect(std::span<GpuContext* const> contexts, const GpuSampler& sampler);
  GpuLookup& lookup() { return lookup_; }

  // The context goes on in another way, or away.
  void leave(GpuContext& context);
  void forget(const GpuContext& context) noexcept;

  static int64_t bytes(const ModelConfig& config);

 private:
  struct Step;   // what a step reads
  struct Ahead;  // one that is expected
  struct Bounds {
    int32_t rows, near, far, sealed, select;
    bool guesses, represents;
    int32_t unit, window;
    int vote, kind;
    auto operator<=>(const Bounds&) const = default;
  };

  Bounds bounds(std::span<const Row> rows) const;
  bool make_room(std::span<const Row> rows, const Bounds& bounds);
  Step describe(std::span<const Row> rows, const Bounds& bounds);
  bool follows(std::span<const Row> rows, const Bounds& bounds) const;
  void run_expected(std::span<const Row> rows);
  void run_described(std::span<const Row> rows, const Bounds& bounds);
  void drop_expected();
  void run(const Step& step, GpuContext* careful);
  void learn(const Step& step);
  void represent_sealed(std::span<const Row> rows);
  void keep_hidden(std::span<const Row> next);
  int64_t layer_q() const { return kernels::cuda::kFewRows * dense_.q_row(); }

  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  GpuDense& dense_;
  GpuHome& home_;
  const kernels::cuda::Heads shape_;

  // (kFewRows, ...)
  GpuBuffer x_, last_x_;                // hidden, float32: residual stream; that of the step before
  GpuBuffer q_near_;                    // heads * head_dim, of every layer: (layers, kFewRows, ...)
  GpuBuffer q_far_, q_lookup_, o_;      // heads * head_dim
  GpuBuffer logits_;                    // vocabulary, float32
  GpuBuffer attention_scratch_;
  GpuInputs inputs_, seal_inputs_;
  GpuLookup lookup_;
  std::unique_ptr<GpuGuess> guess_;

  // Whose rows the last step's hidden states and logits are; null: gone.
  std::vector<GpuContext*> rows_;
  bool logits_valid_ = false;
  std::map<Bounds, std::unique_ptr<kernels::Gpu::Graph>> graphs_;  // null: run once, not captured
  std::unique_ptr<Step> step_;                                     // the last one
  std::unique_ptr<Ahead> ahead_;                                   // the next one
  bool trusted_ = false;                                           // what was last expected came
};

}  // namespace ringtide::model
