// What sets the architectures apart that share one forward pass.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/model.h"

namespace ringtide::model {

// Whether all layers, none, or all but one of each period slide a window over the context.
enum class Sliding : uint8_t { None, All, Interleaved };
enum class Biases : uint8_t { None, Optional, Required };

struct Architecture {
  std::string_view name;  // as GGUF files have it
  // GGUF keeps the rows of Wq and Wk so that RoPE turns neighbours, (x[2j], x[2j + 1]) of a head,
  // and not (x[j], x[j + head_dim / 2]).
  bool adjacent_pairs = false;
  Biases qkv_bias = Biases::None;
  bool head_norms = false;      // queries and keys are normed a head, before RoPE
  bool post_norms = false;      // what attention and feed-forward give is normed before it is added
  bool norms_less_one = false;  // Hugging Face files keep norms less 1
  bool scaled_embedding = false;  // by sqrt(hidden)
  Activation activation = Activation::Silu;
  Sliding sliding = Sliding::None;  // All: where the file gives a window
  int32_t sliding_period = 0;       // Interleaved: the last layer of each period sees everything
  double sliding_rope_base = 0;     // of sliding layers; 0: that of the others
};

std::span<const Architecture> architectures();
const Architecture* find_architecture(std::string_view name);  // null: not served
std::string architecture_names();                              // "llama, qwen2, ..."

}  // namespace ringtide::model
