// Small models with random weights, whole in every other way: a file of any architecture served,
// with a byte-level tokenizer, special tokens and a ChatML template. Same parameters, same bytes.
#pragma once

#include <cstdint>
#include <string>

#include "tests/support/gguf_builder.h"

namespace ringtide::testing {

struct TinyModel {
  std::string architecture = "llama";  // or mistral3, qwen2, qwen3, gemma3
  uint32_t layers = 2;
  uint32_t hidden = 64;  // multiple of 32
  uint32_t heads = 4;
  uint32_t kv_heads = 2;     // divides heads
  uint32_t head_dim = 0;     // 0: hidden / heads; even, and heads * head_dim a multiple of 32
  uint32_t ffn = 128;        // multiple of 32
  uint32_t context = 512;    // trained window, tokens
  std::string type = "F32";  // of the matrices
  std::string embedding_type = "F32";  // of the embedding, which is also the output unless untied
  bool tied = true;
  float rope_base = 10000;
  float linear_scaling = 0;     // of RoPE; 0: none
  bool rope_factors = false;    // the tensor rope_freqs.weight, from 1 to 8
  uint32_t sliding_window = 0;  // tokens; 0: none, and 24 in gemma3
  uint64_t seed = 1;
};

// Token ids: the special ones, then the 256 bytes in GPT-2's order, then merges.
inline constexpr int32_t kTinyEndOfText = 0;  // <|endoftext|>
inline constexpr int32_t kTinyStart = 1;      // <|im_start|>, bos
inline constexpr int32_t kTinyEnd = 2;        // <|im_end|>, eos

// Throws std::invalid_argument: a shape that cannot be.
GgufBuilder tiny_gguf(const TinyModel& model);

inline void write_tiny_gguf(const std::string& path, const TinyModel& model) {
  write_file(path, tiny_gguf(model).build());
}

}  // namespace ringtide::testing
