// A model as its file has it: shape, tensors, tokenizer, template. Immutable; shared by engines.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/mapped_file.h"
#include "model/tensors.h"
#include "model/types.h"

namespace ringtide::model {

class Tokenizer;

// Called with the part of a long task that is done, 0 to 1, on the thread that asked for the task.
using Progress = std::function<void(double)>;

enum class Activation : uint8_t { Silu, GeluTanh };

struct ModelConfig {
  std::string architecture;  // as GGUF names it: "llama"
  std::string name;          // as the file says
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t ffn = 0;
  int32_t vocabulary = 0;
  int32_t trained_context = 0;  // tokens
  bool tied = false;            // the output is the embedding
  float norm_eps = 1e-5f;
  float embedding_scale = 1;                 // rows of the embedding are multiplied by it
  float attention_scale = 0;                 // a logit is attention_scale * q.k
  Activation activation = Activation::Silu;  // of the feed-forward's gate
  // Angular frequency of each rotated pair, (head_dim / 2), scaling (linear, llama3) included.
  std::vector<double> rope_inv_freq;
  // Layers that slide a window: whatever the policy, a query there sees the last `sliding_window`
  // tokens, itself included, at their true distance, and nothing else.
  std::vector<bool> sliding;  // (layers); empty: none does
  int32_t sliding_window = 0;
  std::vector<double> sliding_inv_freq;  // as rope_inv_freq, of these layers; empty: the same

  bool slides(int layer) const { return !sliding.empty() && sliding[layer]; }
};

// The tokenizer alone of a file or folder that Model::load takes. Throws ModelError.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path);

class Model {
 public:
  // Maps and validates a GGUF file, or a Hugging Face folder. Throws ModelError.
  static std::shared_ptr<const Model> load(const std::string& path);

  // Lets the system take back the memory of the files' pages; they are read again when touched.
  void forget_pages() const {
    for (const auto& file : files) file->forget_pages();
  }

  ModelConfig config;
  std::string path;
  std::string fingerprint;    // 32 hex digits: hash of the file's bytes that decide its numbers
  std::string chat_template;  // the file's own, may be empty
  std::shared_ptr<const Tokenizer> tokenizer;
  Tensors tensors;
  std::vector<std::shared_ptr<const MappedFile>> files;  // what tensors point into
};

}  // namespace ringtide::model
