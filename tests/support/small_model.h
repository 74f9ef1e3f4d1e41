// A Llama-shaped model with random float32 weights, small enough for a float64 reference.
#pragma once

#include <memory>
#include <vector>

#include "model/model.h"

namespace ringtide::testing {

struct SmallModel {
  model::ModelConfig config;
  struct Layer {
    std::vector<float> attention_norm, wq, wk, wv, wo, ffn_norm, gate, up, down;  // (outputs, inputs)
  };
  std::vector<float> embedding;  // (vocabulary, hidden), also the output weights
  std::vector<float> output_norm;
  std::vector<Layer> layers;
  std::shared_ptr<const model::Model> model;  // the same weights
};

struct SmallShape {
  int layers = 2, hidden = 32, heads = 4, kv_heads = 2, head_dim = 16, ffn = 48, vocabulary = 97;
};
SmallModel small_model(uint64_t seed, const SmallShape& shape = {});

}  // namespace ringtide::testing
