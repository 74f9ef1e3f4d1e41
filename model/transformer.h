// The forward pass of a Llama-like model over rows of several contexts.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/threads.h"
#include "model/context.h"
#include "model/context_attention.h"
#include "model/cpu_weights.h"
#include "model/model.h"
#include "model/shard_ring.h"

namespace ringtide::model {

// The activations of one pass; grows to the largest pass and is used again.
struct Activations {
  std::vector<float> x;         // (rows, hidden) residual stream
  std::vector<float> h;         // (rows, hidden) normed
  std::vector<float> q, attn;   // (rows, heads * head_dim)
  std::vector<float> k, v;      // (rows, kv_heads * head_dim)
  std::vector<float> gate, up;  // (rows, ffn)
  void resize(const ModelConfig& config, int64_t rows);
};

class Transformer {
 public:
  // Null `ring`: this engine computes every row.
  Transformer(const Model& model, const CpuWeights& weights, kernels::ThreadPool& threads,
              ShardRing* ring = nullptr)
      : config_(model.config),
        tensors_(model.tensors),
        weights_(weights),
        threads_(threads),
        ring_(ring) {}

  // Runs the segments' rows through all layers, leaving the residual stream in act.x in the order
  // of the segments. Contexts are begun and not yet finished. The rows of a long block are split
  // over the shards of a ring: of these, act.x has this shard's and the last.
  void forward(std::span<const Segment> segments, ContextAttention& attention, Activations& act);

  // logits (rows, vocabulary) of residual rows (rows, hidden).
  void logits(const float* x, int64_t rows, float* logits, std::vector<float>& scratch);

 private:
  struct Product {
    const kernels::PackedMatrix& w;
    float* out;  // (rows, w.n)
  };
  // out = in * w^T for each. Split: each output by one of the shards, in one exchange.
  void products(const float* in, int64_t rows, std::initializer_list<Product> products, bool split);

  const ModelConfig& config_;
  const Tensors& tensors_;  // the embedding and the norms
  const CpuWeights& weights_;
  kernels::ThreadPool& threads_;
  ShardRing* ring_;
  std::vector<float> part_;  // of products that are split
};

}  // namespace ringtide::model
