// A loaded model: shape, weights, tokenizer, template. Immutable; shared by engines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/tensor_type.h"
#include "model/types.h"

namespace ringtide::model {

class Tokenizer;

// Called with the part of a long task that is done, 0 to 1, on the thread that asked for the task.
using Progress = std::function<void(double)>;

struct ModelConfig {
  std::string architecture;  // "llama"
  std::string name;          // as the file says
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t ffn = 0;
  int32_t vocabulary = 0;
  int32_t trained_context = 0;  // tokens
  float norm_eps = 1e-5f;
  // Angular frequency of each rotated pair, (head_dim / 2), scaling (linear, llama3) included.
  std::vector<double> rope_inv_freq;
};

struct LayerWeights {
  const float* attention_norm = nullptr;  // (hidden)
  kernels::PackedMatrix wq;         // hidden -> heads * head_dim, rows in half-split RoPE order
  kernels::PackedMatrix wk;         // hidden -> kv_heads * head_dim, rows in half-split RoPE order
  kernels::PackedMatrix wv;         // hidden -> kv_heads * head_dim
  kernels::PackedMatrix wo;         // heads * head_dim -> hidden
  const float* ffn_norm = nullptr;  // (hidden)
  kernels::PackedMatrix gate, up;   // hidden -> ffn
  kernels::PackedMatrix down;       // ffn -> hidden
};

// The rows of the embedding, as they lie in the file.
struct Embedding {
  kernels::TensorType type = kernels::TensorType::F32;
  const std::byte* rows = nullptr;  // (vocabulary, hidden)
};

class Model {
 public:
  // Maps and validates a GGUF file, packs its weights with `threads`. Throws ModelError.
  static std::shared_ptr<const Model> load(const std::string& path, kernels::ThreadPool& threads,
                                           const Progress& progress = {});

  ModelConfig config;
  std::string path;
  std::string fingerprint;    // 32 hex digits: hash of the file's bytes that decide its numbers
  std::string chat_template;  // the file's own, may be empty
  std::shared_ptr<const Tokenizer> tokenizer;
  Embedding embedding;
  std::vector<LayerWeights> layers;
  const float* output_norm = nullptr;  // (hidden)
  kernels::PackedMatrix output;        // hidden -> vocabulary (tied: made from the embedding)
  int64_t weight_bytes = 0;            // packed weights and the mapped embedding
  std::shared_ptr<const void> memory;  // owns the mapping and the packed weights
};

}  // namespace ringtide::model
