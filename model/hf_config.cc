#include "model/hf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/architecture.h"
#include "model/file_tensor.h"
#include "model/rope_frequencies.h"

namespace ringtide::model {
namespace {

using nlohmann::json;

constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

// A class of the transformers library, and what its configuration leaves to a default.
struct HfClass {
  std::string_view name;
  std::string_view architecture;
  std::string_view activation_key, activation;
  int32_t head_dim = 0;  // 0: hidden / heads
  bool tied = false;
  double rope_base = 10000;
  bool slides = false;  // sliding_window counts wherever it is given
};
constexpr HfClass kClasses[] = {
    {.name = "LlamaForCausalLM",
     .architecture = "llama",
     .activation_key = "hidden_act",
     .activation = "silu"},
    {.name = "MistralForCausalLM",
     .architecture = "llama",
     .activation_key = "hidden_act",
     .activation = "silu",
     .slides = true},
    {.name = "Qwen2ForCausalLM",
     .architecture = "qwen2",
     .activation_key = "hidden_act",
     .activation = "silu"},
    {.name = "Qwen3ForCausalLM",
     .architecture = "qwen3",
     .activation_key = "hidden_act",
     .activation = "silu",
     .head_dim = 128},
    {.name = "Gemma3ForCausalLM",
     .architecture = "gemma3",
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .head_dim = 256,
     .tied = true,
     .rope_base = 1e6},
};

const HfClass& read_class(const JsonObject& in) {
  const json* names = in.array("architectures");
  std::string known;
  for (const HfClass& c : kClasses) {
    if (names != nullptr && names->size() == 1 && (*names)[0] == c.name) return c;
    known += (known.empty() ? "" : ", ") + std::string(c.name);
  }
  std::string said = "is missing";
  if (names != nullptr) {
    said = "is ";
    for (const json& name : *names) {
      said += (said == "is " ? "" : ", ") +
              (name.is_string() ? model::quoted(name.get_ref<const std::string&>()) : "no string");
    }
  }
  in.fail("architectures", said + "; supported: " + known);
}

int32_t required(const JsonObject& in, const std::string& key, int64_t low, int64_t high) {
  return static_cast<int32_t>(in.require(key, in.integer(key, low, high)));
}

double positive(const JsonObject& in, const std::string& key, std::optional<double> otherwise) {
  const std::optional<double> found = in.number(key);
  const double value = found ? *found : in.require(key, otherwise);
  if (value <= 0) in.fail(key, "must be above 0");
  return value;
}

// Keys that would change what the forward pass must compute, and the value at which they do
// nothing.
void refuse_unsupported(const JsonObject& in, const HfClass& c) {
  const auto refuse = [&](const char* key) {
    in.fail(key, "is used; a model that uses this is not supported");
  };
  for (const char* key :
       {"attn_logit_softcapping", "final_logit_softcapping", "num_local_experts", "num_experts"}) {
    if (in.number(key).value_or(0) != 0) refuse(key);
  }
  for (const char* key :
       {"partial_rotary_factor", "logits_scaling", "residual_multiplier", "embedding_multiplier"}) {
    if (in.number(key).value_or(1) != 1) refuse(key);
  }
  for (const char* key : {"mlp_bias", "use_sliding_window", "use_bidirectional_attention"}) {
    if (in.boolean(key).value_or(false)) refuse(key);
  }
  // Qwen2's three biases are no choice; where there is one, the output projection has one too.
  if (c.architecture != "qwen2" && in.boolean("attention_bias").value_or(false)) {
    refuse("attention_bias");
  }
  if (in.has("quantization_config")) {
    in.fail("quantization_config",
            "is there; supported are weights in F32, F16 or BF16, or a quantised GGUF file");
  }
  const std::string activation =
      in.string(std::string(c.activation_key)).value_or(std::string(c.activation));
  if (activation != c.activation) {
    in.fail(std::string(c.activation_key),
            "is " + model::quoted(activation) + "; supported: " + std::string(c.activation));
  }
}

// `in` holds the scaling itself: "rope_type" or "type", and its numbers.
void scale(const JsonObject& in, std::vector<double>& frequencies) {
  const char* key = in.has("rope_type") ? "rope_type" : "type";
  const std::string type = in.string(key).value_or("default");
  if (type == "linear") {
    scale_linear(frequencies, positive(in, "factor", std::nullopt));
  } else if (type == "llama3") {
    Llama3Scaling scaling;
    scaling.factor = positive(in, "factor", std::nullopt);
    scaling.low_freq_factor = positive(in, "low_freq_factor", std::nullopt);
    scaling.high_freq_factor = positive(in, "high_freq_factor", std::nullopt);
    scaling.original_context = required(in, "original_max_position_embeddings", 1, kMost);
    if (scaling.high_freq_factor <= scaling.low_freq_factor) {
      in.fail("high_freq_factor", "must be above low_freq_factor");
    }
    scale_llama3(frequencies, scaling);
  } else if (type != "default") {
    in.fail(key, "is " + model::quoted(type) + "; supported: default, linear, llama3");
  }
}

// Older files tell the base and its scaling apart, newer ones in "rope_parameters", where Gemma 3
// has an object a kind of layer.
void read_rope(const JsonObject& in, const HfClass& c, const Architecture& a, ModelConfig& config) {
  const auto tell = [&](const JsonObject& all, const std::string& base_key, double base,
                        const std::optional<JsonObject>& scaling) {
    std::vector<double> frequencies =
        rope_frequencies(config.head_dim, positive(all, base_key, base));
    if (scaling) scale(*scaling, frequencies);
    return frequencies;
  };
  const bool own = a.sliding_rope_base > 0 && !config.sliding.empty();
  if (const auto parameters = in.object("rope_parameters")) {
    const auto part = [&](const char* name) {
      return parameters->object(name).value_or(*parameters);
    };
    const JsonObject full = part("full_attention"), sliding = part("sliding_attention");
    config.rope_inv_freq = tell(full, "rope_theta", c.rope_base, full);
    if (own) config.sliding_inv_freq = tell(sliding, "rope_theta", a.sliding_rope_base, sliding);
    return;
  }
  config.rope_inv_freq = tell(in, "rope_theta", c.rope_base, in.object("rope_scaling"));
  if (own) {
    config.sliding_inv_freq = tell(in, "rope_local_base_freq", a.sliding_rope_base, std::nullopt);
  }
}

void read_sliding(const JsonObject& in, const HfClass& c, const Architecture& a,
                  ModelConfig& config) {
  const bool interleaved = a.sliding == Sliding::Interleaved;
  if (!c.slides && !interleaved) return;  // without use_sliding_window the value does nothing
  if (!in.has("sliding_window") && !interleaved) return;
  config.sliding_window = required(in, "sliding_window", 1, kMost);
  const json* types = in.array("layer_types");
  if (types != nullptr && types->size() != static_cast<size_t>(config.layers)) {
    in.fail("layer_types", "has " + std::to_string(types->size()) + " entries for " +
                               std::to_string(config.layers) + " layers");
  }
  const int64_t period =
      interleaved ? in.integer("sliding_window_pattern", 1, 1024).value_or(a.sliding_period) : 0;
  for (int32_t i = 0; i < config.layers; ++i) {
    bool slides = period == 0 || i % period != period - 1;
    if (types != nullptr) {
      slides = (*types)[i] == "sliding_attention";
      if (!slides && (*types)[i] != "full_attention") {
        in.fail("layer_types", "must hold \"sliding_attention\" and \"full_attention\" only");
      }
    }
    config.sliding.push_back(slides);
  }
}

}  // namespace

ModelConfig read_hf_config(const JsonObject& in) {
  const HfClass& hf = read_class(in);
  const Architecture& a = *find_architecture(hf.architecture);
  refuse_unsupported(in, hf);
  ModelConfig c;
  c.architecture = a.name;
  c.activation = a.activation;
  c.layers = required(in, "num_hidden_layers", 1, 1024);
  c.hidden = required(in, "hidden_size", 1, 1 << 17);
  c.ffn = required(in, "intermediate_size", 1, 1 << 20);
  c.vocabulary = required(in, "vocab_size", 1, 1 << 24);
  c.trained_context = required(in, "max_position_embeddings", 1, kMost);
  c.heads = required(in, "num_attention_heads", 1, 1024);
  c.kv_heads =
      static_cast<int32_t>(in.integer("num_key_value_heads", 1, c.heads).value_or(c.heads));
  if (c.heads % c.kv_heads != 0) in.fail("num_key_value_heads", "must divide num_attention_heads");
  const int32_t usual = hf.head_dim > 0 ? hf.head_dim : c.hidden / c.heads;
  if (hf.head_dim == 0 && !in.has("head_dim") && c.hidden % c.heads != 0) {
    in.fail("num_attention_heads", "must divide hidden_size");
  }
  c.head_dim = static_cast<int32_t>(in.integer("head_dim", 2, 1024).value_or(usual));
  if (c.head_dim < 2 || c.head_dim > 1024 || c.head_dim % 2 != 0) {
    in.fail("head_dim", "is " + std::to_string(c.head_dim) +
                            "; a head must have an even 2 to 1024 "
                            "values");
  }
  const double epsilon = in.require("rms_norm_eps", in.number("rms_norm_eps"));
  if (epsilon < 0 || epsilon > 1) in.fail("rms_norm_eps", "must be from 0 to 1");
  c.norm_eps = static_cast<float>(epsilon);
  c.tied = in.boolean("tie_word_embeddings").value_or(hf.tied);
  if (a.scaled_embedding) c.embedding_scale = std::sqrt(static_cast<float>(c.hidden));
  const double divisor =
      a.name == "gemma3" ? positive(in, "query_pre_attn_scalar", 256) : c.head_dim;
  c.attention_scale = static_cast<float>(1 / std::sqrt(divisor));
  read_sliding(in, hf, a, c);
  read_rope(in, hf, a, c);
  return c;
}

}  // namespace ringtide::model
