// How containers name the tensors of a model, and how they lay them out.
#pragma once

#include <string_view>

#include "model/architecture.h"

namespace ringtide::model {

struct TensorNames {
  std::string_view embedding, output_norm, output;
  // Of layer i: layer, i, ".", one of the following, and ".weight" or ".bias".
  std::string_view layer;
  std::string_view attention_norm, q, k, v, q_norm, k_norm, o, post_attention_norm;
  std::string_view ffn_norm, gate, up, down, post_ffn_norm;
  // Rows of q and k are ordered so that RoPE turns (x[2j], x[2j + 1]), not (x[j], x[j + d / 2]).
  bool adjacent_pairs = false;
  float norm_offset = 0;  // norms are kept less this
};

TensorNames gguf_names(const Architecture& architecture);
TensorNames hugging_face_names(const Architecture& architecture);

}  // namespace ringtide::model
