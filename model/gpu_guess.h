// What a layer's lookup will likely choose, brought into slots while the layer before it runs: the
// lookup of the query that the layer would have if the layer before it added nothing. It only warms
// slots, so it changes no result.
//
// Choosing goes to one queue and copying to another, since a choice reads the device's memory and
// copies read the host's. One row. The engine's thread only.
#pragma once

#include <memory>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_context.h"
#include "model/gpu_lookup.h"
#include "model/gpu_weights.h"
#include "model/model.h"

namespace ringtide::model {

class GpuGuess {
 public:
  GpuGuess(kernels::Gpu& gpu, const ModelConfig& config, const GpuWeights& weights, GpuHome& home,
           UnitStore& store);

  // Room for a step. Returns whether everything stayed where it was.
  bool begin(const GpuLayout& layout, int32_t sealed, int32_t select);
  struct Inputs {  // on the device, of one row
    const kernels::cuda::TokenPlace* place = nullptr;
    const int32_t* angle = nullptr;  // of the lookup
    const kernels::cuda::Memory* memory = nullptr;
    const kernels::cuda::Slots* slots = nullptr;  // (layers)
    const int64_t* tick = nullptr;
    kernels::cuda::Vote vote = kernels::cuda::Vote::Softmax;
  };
  // Of each layer but the first, in this order, while the layer before it runs.
  // The residual row x is what comes into the layer before.
  void prepare(int layer, const float* x);
  // Behind the choice of the layer before, and beside its copies: neither is then held up by the
  // other's loads.
  void choose(int layer, const Inputs& in);
  // Behind those copies, beside the rest of the layer before.
  void bring();
  // Before the layer's lookup assigns slots, which ends the guess; then before it copies.
  void await_slots();
  void await_copies();

 private:
  kernels::cuda::bf16* h(int layer) const;

  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  const GpuWeights& weights_;
  GpuHome& home_;
  const int64_t q_row_;
  GpuBuffer h_;  // (2, hidden): while one is read, the next layer's is written
  GpuBuffer product_, rotated_, q_;  // heads * head_dim
  GpuBuffer product_scratch_;
  GpuLookup lookup_;
  kernels::cuda::Lookup next_;  // what was chosen last
  const std::unique_ptr<kernels::Gpu::Event> asked_, chosen_, looked_up_, assigned_, there_;
};

}  // namespace ringtide::model
