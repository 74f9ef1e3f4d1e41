// What a model's files hold, as they hold it: matrices where they lie, small vectors as float32.
//
// Engines make their own of it: packed for the CPU's loops (cpu_weights.h), copied to a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor_type.h"

namespace ringtide::model {

// The weights of a linear layer. Shape and type are checked, the values are not.
struct RawMatrix {
  std::string name;  // as in the file
  kernels::TensorType type = kernels::TensorType::F32;
  const std::byte* rows =
      nullptr;    // (n, k) of the type's blocks, in the mapping; null: no such layer
  int64_t n = 0;  // outputs
  int64_t k = 0;  // inputs
  // Output i is made of row order[i]; empty: of row i.
  std::span<const int32_t> order;

  int64_t bytes() const { return n * kernels::row_bytes(type, k); }
};

// Vectors are finite, and empty where the model has no such step.
struct LayerTensors {
  std::vector<float> attention_norm;  // (hidden)
  RawMatrix wq;                       // hidden -> heads * head_dim, rows half-split for RoPE
  RawMatrix wk;                       // hidden -> kv_heads * head_dim, half-split too
  RawMatrix wv;                       // hidden -> kv_heads * head_dim
  std::vector<float> q_bias, k_bias, v_bias;  // as the rows of wq, wk, wv, in their order
  std::vector<float> q_norm, k_norm;          // (head_dim), of each head before RoPE
  RawMatrix wo;                               // heads * head_dim -> hidden
  std::vector<float> post_attention_norm;     // (hidden), of wo's result before it is added
  std::vector<float> ffn_norm;                // (hidden)
  RawMatrix gate, up;                         // hidden -> ffn
  RawMatrix down;                             // ffn -> hidden
  std::vector<float> post_ffn_norm;           // (hidden), of down's result before it is added
};

struct Tensors {
  RawMatrix embedding;  // row a token, (vocabulary, hidden)
  std::vector<LayerTensors> layers;
  std::vector<float> output_norm;  // (hidden)
  RawMatrix output;                // hidden -> vocabulary; tied: the embedding
  int64_t bytes = 0;               // of all of these, a tied output counted once
  // Row orders that matrices point to.
  std::shared_ptr<const std::vector<int32_t>> q_order, k_order;
};

}  // namespace ringtide::model
