// A model's weights in device memory, bf16: the matrices that read the same input side by side.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/gpu.h"
#include "model/model.h"

namespace ringtide::model {

struct GpuLayerWeights {
  const float* attention_norm = nullptr;      // (hidden)
  const kernels::cuda::bf16* qkv = nullptr;   // hidden -> (heads + 2 kv_heads) * head_dim
  const float* qkv_bias = nullptr;            // of those rows; null: none
  const float* q_norm = nullptr;              // (head_dim); null: none
  const float* k_norm = nullptr;
  const kernels::cuda::bf16* wo = nullptr;    // heads * head_dim -> hidden
  const float* ffn_norm = nullptr;            // (hidden)
  const kernels::cuda::bf16* gate_up = nullptr;  // hidden -> 2 ffn
  const kernels::cuda::bf16* down = nullptr;     // ffn -> hidden
};

class GpuWeights {
 public:
  // From the model's tensors; where it has none (a shape to measure), random ones. Throws what the
  // device throws where they do not fit.
  GpuWeights(kernels::Gpu& gpu, const Model& model);
  ~GpuWeights();
  GpuWeights(const GpuWeights&) = delete;

  const kernels::cuda::bf16* embedding() const { return embedding_; }  // (vocabulary, hidden)
  const kernels::cuda::bf16* output() const { return output_; }        // hidden -> vocabulary
  const float* output_norm() const { return output_norm_; }            // (hidden)
  const std::vector<GpuLayerWeights>& layers() const { return layers_; }

  // Of the device, and of those what a decoded token reads.
  static int64_t bytes(const Model& model);
  static int64_t bytes_per_token(const Model& model);
  // Why this model cannot run here; empty: it can.
  static std::string refusal(const Model& model);

 private:
  class Loader;
  kernels::Gpu& gpu_;
  std::byte* memory_ = nullptr;
  const kernels::cuda::bf16* embedding_ = nullptr;
  const kernels::cuda::bf16* output_ = nullptr;
  const float* output_norm_ = nullptr;
  std::vector<GpuLayerWeights> layers_;
};

}  // namespace ringtide::model
