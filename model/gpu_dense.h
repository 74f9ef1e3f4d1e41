// The parts of a model that look at each token by itself: norms, products, the feed-forward,
// logits. Many rows are taken in parts, so that what they need in between stays small.
//
// The engine's thread only.
#pragma once

#include <cstdint>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_weights.h"
#include "model/model.h"

namespace ringtide::model {

class GpuDense {
 public:
  static constexpr int32_t kPart = 4096;  // rows

  // `rows`: the most that are handed over at once.
  GpuDense(kernels::Gpu& gpu, const ModelConfig& config, const GpuWeights& weights, int32_t rows);

  // How the products of rows are made: kernels/cuda/matmul.h. Few: at most kFewRows.
  enum class Path : uint8_t { Few, Many };

  // x (rows, hidden) = embeddings of tokens, which are on the device.
  void embed(const int32_t* tokens, int64_t rows, float* x);
  // Norm, products and rotation in front of a layer's attention. `split` says where queries, keys
  // and values go; its qkv, biases, norms and number of rows are set here.
  void before_attention(int layer, const float* x, int64_t rows, kernels::cuda::Qkv split,
                        Path path);
  // The same in two: (rows, qkv_row()) of their own, then, of rows that may be others' as well, where
  // they go.
  void products(int layer, const float* x, int64_t rows, kernels::cuda::bf16* qkv);
  void place(int layer, const kernels::cuda::bf16* qkv, int64_t rows, kernels::cuda::Qkv split);
  // x += wo * attention; x += feed-forward of norm(x).
  void after_attention(int layer, const kernels::cuda::bf16* attention, int64_t rows, float* x,
                       Path path);
  // (rows, vocabulary), of at most kFewRows rows of the last layer's output.
  void logits(const float* x, int64_t rows, float* logits);

  static int64_t bytes(const ModelConfig& config, int32_t rows);
  int64_t q_row() const { return int64_t{config_.heads} * config_.head_dim; }
  int64_t qkv_row() const { return q_row() + int64_t{2} * config_.kv_heads * config_.head_dim; }

 private:
  using bf16 = kernels::cuda::bf16;
  void qkv(int layer, const float* x, int64_t rows, bf16* to, Path path);
  void product(const bf16* x, const bf16* w, int64_t rows, int64_t n, int64_t k, bf16* y,
               float* y32, kernels::cuda::Write write, Path path);
  void gated(const bf16* w, int64_t rows, Path path);  // of h_, to gated_

  kernels::Gpu& gpu_;
  const ModelConfig& config_;
  const GpuWeights& weights_;
  GpuBuffer h_;        // (part, hidden)
  GpuBuffer qkv_;      // (part, qkv_row)
  GpuBuffer gate_up_;  // (part, 2 ffn)
  GpuBuffer gated_;    // (part, ffn)
  GpuBuffer scratch_;  // of products of few rows
};

}  // namespace ringtide::model
