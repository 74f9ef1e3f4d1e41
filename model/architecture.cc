#include "model/architecture.h"

#include <algorithm>

namespace ringtide::model {
namespace {

// Llama: arXiv 2302.13971, 2407.21783; Mistral: 2310.06825; Qwen2: 2407.10671; Qwen3: 2505.09388;
// Gemma 3: 2503.19786. How files name and lay them out: the converters of llama.cpp.
constexpr Architecture kArchitectures[] = {
    {.name = "llama",
     .adjacent_pairs = true,
     .qkv_bias = Biases::Optional,
     .sliding = Sliding::All},
    {.name = "mistral3", .adjacent_pairs = true, .sliding = Sliding::All},
    {.name = "qwen2", .qkv_bias = Biases::Required},
    {.name = "qwen3", .head_norms = true},
    {.name = "gemma3",
     .head_norms = true,
     .post_norms = true,
     .norms_less_one = true,
     .scaled_embedding = true,
     .activation = Activation::GeluTanh,
     .sliding = Sliding::Interleaved,
     .sliding_period = 6,
     .sliding_rope_base = 10000},
};

}  // namespace

std::span<const Architecture> architectures() { return kArchitectures; }

const Architecture* find_architecture(std::string_view name) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  return found == std::end(kArchitectures) ? nullptr : found;
}

std::string architecture_names() {
  std::string names;
  for (const Architecture& a : kArchitectures) {
    names += (names.empty() ? "" : ", ") + std::string(a.name);
  }
  return names;
}

}  // namespace ringtide::model
