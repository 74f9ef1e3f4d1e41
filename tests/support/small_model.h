// A model of the Llama family with random float32 weights, small enough for a float64 reference.
#pragma once

#include <memory>
#include <vector>

#include "model/model.h"

namespace ringtide::testing {

struct SmallModel {
  model::ModelConfig config;
  struct Layer {
    std::vector<float> attention_norm, wq, wk, wv, wo, ffn_norm, gate, up, down;  // (outputs, inputs)
    // Empty where the shape has none.
    std::vector<float> q_bias, k_bias, v_bias, q_norm, k_norm, post_attention_norm, post_ffn_norm;
  };
  std::vector<float> embedding;  // (vocabulary, hidden), also the output weights
  std::vector<float> output_norm;
  std::vector<Layer> layers;
  std::shared_ptr<const model::Model> model;  // the same weights
};

struct SmallShape {
  int layers = 2, hidden = 32, heads = 4, kv_heads = 2, head_dim = 16, ffn = 48, vocabulary = 97;
  bool biases = false, head_norms = false, post_norms = false, gelu = false;
  int sliding_window = 0;  // 0: no layer slides
  int period = 0;          // the last layer of each period does not slide; 0: all do
  double sliding_base = 0; // of RoPE in sliding layers; 0: as in the others
  float embedding_scale = 1, attention_scale = 0;  // 0: 1 / sqrt(head_dim)
  int idle_layers = 0;     // the first so many add nothing to what comes into them
};
SmallModel small_model(uint64_t seed, const SmallShape& shape = {});

}  // namespace ringtide::testing
