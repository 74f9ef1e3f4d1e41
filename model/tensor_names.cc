#include "model/tensor_names.h"

namespace ringtide::model {

TensorNames gguf_names(const Architecture& architecture) {
  return {.embedding = "token_embd.weight",
          .output_norm = "output_norm.weight",
          .output = "output.weight",
          .layer = "blk.",
          .attention_norm = "attn_norm",
          .q = "attn_q",
          .k = "attn_k",
          .v = "attn_v",
          .q_norm = "attn_q_norm",
          .k_norm = "attn_k_norm",
          .o = "attn_output",
          .post_attention_norm = "post_attention_norm",
          .ffn_norm = "ffn_norm",
          .gate = "ffn_gate",
          .up = "ffn_up",
          .down = "ffn_down",
          .post_ffn_norm = "post_ffw_norm",
          .adjacent_pairs = architecture.adjacent_pairs};
}

TensorNames hugging_face_names(const Architecture& architecture) {
  const bool post = architecture.post_norms;
  return {.embedding = "model.embed_tokens.weight",
          .output_norm = "model.norm.weight",
          .output = "lm_head.weight",
          .layer = "model.layers.",
          .attention_norm = "input_layernorm",
          .q = "self_attn.q_proj",
          .k = "self_attn.k_proj",
          .v = "self_attn.v_proj",
          .q_norm = "self_attn.q_norm",
          .k_norm = "self_attn.k_norm",
          .o = "self_attn.o_proj",
          .post_attention_norm = "post_attention_layernorm",
          .ffn_norm = post ? "pre_feedforward_layernorm" : "post_attention_layernorm",
          .gate = "mlp.gate_proj",
          .up = "mlp.up_proj",
          .down = "mlp.down_proj",
          .post_ffn_norm = "post_feedforward_layernorm",
          // Gemma's norms multiply by 1 + w; GGUF keeps the sum.
          .norm_offset = architecture.norms_less_one ? 1.0f : 0.0f};
}

}  // namespace ringtide::model
