#include "model/config.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "model/architecture.h"
#include "model/rope_frequencies.h"

namespace ringtide::model {
namespace {

// Keys, less the architecture's name, that would change what the forward pass must compute, and the
// value at which they do nothing.
struct Neutral {
  std::string_view key;
  double value;
};
constexpr Neutral kNeutral[] = {
    {"expert_count", 0},
    {"expert_used_count", 0},
    {"attention.clamp_kqv", 0},
    {"attention.max_alibi_bias", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"attention.temperature_length", 0},
    {"attention.temperature_scale", 0},
    {"attention.shared_kv_layers", 0},
    {"attention.scale", 0},
    {"logit_scale", 1},
    {"residual_scale", 1},
    {"embedding_scale", 1},
    {"rope.scale_linear", 1},
    {"rope.scaling.attn_factor", 1},
};

class ConfigReader {
 public:
  ConfigReader(const GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  // The architecture's own key.
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }

  int32_t integer(std::string_view name, int64_t low, int64_t high) const {
    return in_range(key(name), file_.require<int64_t>(key(name)), low, high);
  }
  int32_t integer(std::string_view name, int64_t low, int64_t high, int32_t otherwise) const {
    const auto value = file_.find<int64_t>(key(name));
    return value ? in_range(key(name), *value, low, high) : otherwise;
  }
  double positive(std::string_view name) const {
    return positive(key(name), file_.require<double>(key(name)));
  }
  double positive_or(std::string_view name, double otherwise) const {
    return positive(key(name), file_.find<double>(key(name)).value_or(otherwise));
  }
  double positive(std::string_view key, double value) const {
    if (!std::isfinite(value) || value <= 0) {
      refuse(key, std::to_string(value), "it must be finite and above 0");
    }
    return value;
  }
  [[noreturn]] void refuse(std::string_view key, const std::string& value,
                           const std::string& why) const {
    file_.fail("metadata " + quoted(key) + " is " + value + "; " + why);
  }

 private:
  int32_t in_range(std::string_view key, int64_t value, int64_t low, int64_t high) const {
    if (value < low || value > high) {
      refuse(key, std::to_string(value),
             "it must be from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return static_cast<int32_t>(value);
  }

  const GgufFile& file_;
  const std::string prefix_;
};

void refuse_unsupported(const GgufFile& file, const ConfigReader& in) {
  for (const Neutral& neutral : kNeutral) {
    const std::string key = in.key(neutral.key);
    const GgufEntry* e = file.entry(key);
    if (e == nullptr) continue;
    const bool real = e->kind == GgufKind::Float32 || e->kind == GgufKind::Float64;
    const double value =
        real ? *file.find<double>(key) : static_cast<double>(*file.find<int64_t>(key));
    if (value != neutral.value) {
      in.refuse(key, std::to_string(value), "a model that uses this is not supported");
    }
  }
  if (!file.find<bool>(in.key("attention.causal")).value_or(true)) {
    in.refuse(in.key("attention.causal"), "false", "only causal models generate text");
  }
}

std::vector<float> frequency_factors(const GgufFile& file, int pairs) {
  const FileTensor* t = file.tensor("rope_freqs.weight");
  if (t == nullptr) return {};
  if (t->type_name != "F32" || t->shape != std::vector<int64_t>{pairs}) {
    file.fail("tensor \"rope_freqs.weight\" must be F32 of " + std::to_string(pairs) +
              " elements, half the head dimension");
  }
  std::vector<float> factors(pairs);
  std::memcpy(factors.data(), t->bytes.data(), t->bytes.size());
  for (const float f : factors) {
    if (!std::isfinite(f) || f <= 0) {
      file.fail("tensor \"rope_freqs.weight\" holds " + std::to_string(f) +
                "; each factor must be finite and above 0");
    }
  }
  return factors;
}

Llama3Scaling llama3_scaling(const ConfigReader& in) {
  Llama3Scaling scaling;
  scaling.factor = in.positive("rope.scaling.factor");
  scaling.low_freq_factor = in.positive_or("rope.scaling.low_freq_factor", 1);
  scaling.high_freq_factor = in.positive_or("rope.scaling.high_freq_factor", 4);
  scaling.original_context =
      in.integer("rope.scaling.original_context_length", 1, std::numeric_limits<int32_t>::max());
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    in.refuse(in.key("rope.scaling.high_freq_factor"), std::to_string(scaling.high_freq_factor),
              "it must be above the low one");
  }
  return scaling;
}

std::vector<double> read_frequencies(const GgufFile& file, const ConfigReader& in, int head_dim) {
  std::vector<double> frequencies =
      rope_frequencies(head_dim, in.positive_or("rope.freq_base", 10000));
  const std::vector<float> factors = frequency_factors(file, head_dim / 2);
  if (!factors.empty()) scale_each(frequencies, factors);

  const std::string key = in.key("rope.scaling.type");
  const std::string type(file.find<std::string_view>(key).value_or("none"));
  if (type == "linear") {
    scale_linear(frequencies, in.positive("rope.scaling.factor"));
  } else if (type == "llama3") {
    // The tensor, where there is one, is the same scaling already worked out.
    if (factors.empty()) scale_llama3(frequencies, llama3_scaling(in));
  } else if (type != "none") {
    in.refuse(key, quoted(type), "supported: none, linear, llama3");
  }
  return frequencies;
}

void read_sliding(const GgufFile& file, const ConfigReader& in, const Architecture& architecture,
                  ModelConfig& c) {
  constexpr std::string_view kWindow = "attention.sliding_window";
  constexpr std::string_view kPattern = "attention.sliding_window_pattern";
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  int32_t period = 0;
  switch (architecture.sliding) {
    case Sliding::None:
      if (in.integer(kWindow, 0, kMost, 0) != 0) {
        in.refuse(in.key(kWindow), std::to_string(in.integer(kWindow, 0, kMost)),
                  "a sliding window is not supported with this architecture");
      }
      return;
    case Sliding::All:
      c.sliding_window = in.integer(kWindow, 0, kMost, 0);
      if (file.entry(in.key(kPattern)) != nullptr) {
        in.refuse(in.key(kPattern), "there", "all layers slide, or none");
      }
      if (c.sliding_window == 0) return;
      break;
    case Sliding::Interleaved:
      c.sliding_window = in.integer(kWindow, 1, kMost);
      period = in.integer(kPattern, 1, 1024, architecture.sliding_period);
      break;
  }
  for (int32_t i = 0; i < c.layers; ++i) {
    c.sliding.push_back(period == 0 || i % period != period - 1);
  }
  if (architecture.sliding_rope_base > 0) {
    c.sliding_inv_freq = rope_frequencies(
        c.head_dim, in.positive_or("rope.freq_base_swa", architecture.sliding_rope_base));
  }
}

// Gemma 3 27B, the one with 62 layers, was trained with another scale than its head's; the file
// does not say so.
int32_t attention_divisor(const ModelConfig& c) {
  return c.architecture == "gemma3" && c.layers == 62 ? c.hidden / c.heads : c.head_dim;
}

int32_t read_vocabulary(const GgufFile& file, const ConfigReader& in) {
  constexpr int64_t kMost = 1 << 24;
  const FileTensor* embedding = file.tensor("token_embd.weight");
  if (embedding == nullptr) {
    file.fail("tensor \"token_embd.weight\" is missing; the file holds no whole model");
  }
  const int64_t rows = embedding->shape.size() == 2 ? embedding->shape[1] : 0;
  if (rows < 1 || rows > kMost) {
    file.fail("tensor \"token_embd.weight\" must have 2 dimensions and 1 to " +
              std::to_string(kMost) + " rows, one a token");
  }
  const auto agrees = [&](std::string_view key, uint64_t value) {
    if (value != static_cast<uint64_t>(rows)) {
      in.refuse(key, std::to_string(value),
                "tensor \"token_embd.weight\" has " + std::to_string(rows) + " rows");
    }
  };
  const std::string key = in.key("vocab_size");
  if (const auto size = file.find<uint64_t>(key)) agrees(key, *size);
  if (const GgufEntry* tokens = file.entry("tokenizer.ggml.tokens")) {
    agrees("the length of tokenizer.ggml.tokens", tokens->count);
  }
  return static_cast<int32_t>(rows);
}

}  // namespace

ModelConfig read_config(const GgufFile& file) {
  ModelConfig c;
  c.architecture = file.require<std::string_view>("general.architecture");
  const Architecture* architecture = find_architecture(c.architecture);
  if (architecture == nullptr) {
    file.fail("metadata \"general.architecture\" is " + quoted(c.architecture) +
              "; supported: " + architecture_names());
  }
  const ConfigReader in(file, c.architecture);
  c.name = file.find<std::string_view>("general.name").value_or("");
  c.layers = in.integer("block_count", 1, 1024);
  c.hidden = in.integer("embedding_length", 1, 1 << 17);
  c.ffn = in.integer("feed_forward_length", 1, 1 << 20);
  c.trained_context = in.integer("context_length", 1, std::numeric_limits<int32_t>::max());
  c.heads = in.integer("attention.head_count", 1, 1024);
  c.kv_heads = in.integer("attention.head_count_kv", 1, c.heads, c.heads);
  if (c.heads % c.kv_heads != 0) {
    in.refuse(in.key("attention.head_count_kv"), std::to_string(c.kv_heads),
              "it must divide the " + std::to_string(c.heads) + " heads");
  }
  const std::string key_length = in.key("attention.key_length");
  if (file.entry(key_length) == nullptr && c.hidden % c.heads != 0) {
    in.refuse(in.key("attention.head_count"), std::to_string(c.heads),
              "it must divide the embedding length " + std::to_string(c.hidden));
  }
  c.head_dim = in.integer("attention.key_length", 2, 1024, c.hidden / c.heads);
  if (c.head_dim < 2 || c.head_dim > 1024 || c.head_dim % 2 != 0) {
    in.refuse(key_length, std::to_string(c.head_dim), "a head must have an even 2 to 1024 values");
  }
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    const int32_t value = in.integer(name, 1, 1 << 17, c.head_dim);
    if (value != c.head_dim) {
      in.refuse(in.key(name), std::to_string(value),
                "only the whole head, " + std::to_string(c.head_dim) + " values, is supported");
    }
  }
  const std::string epsilon = in.key("attention.layer_norm_rms_epsilon");
  c.norm_eps = file.require<float>(epsilon);
  if (!std::isfinite(c.norm_eps) || c.norm_eps < 0 || c.norm_eps > 1) {
    in.refuse(epsilon, std::to_string(c.norm_eps), "it must be from 0 to 1");
  }
  refuse_unsupported(file, in);
  c.activation = architecture->activation;
  if (architecture->scaled_embedding) c.embedding_scale = std::sqrt(static_cast<float>(c.hidden));
  c.attention_scale = 1 / std::sqrt(static_cast<float>(attention_divisor(c)));
  c.rope_inv_freq = read_frequencies(file, in, c.head_dim);
  read_sliding(file, in, *architecture, c);
  c.vocabulary = read_vocabulary(file, in);
  c.tied = file.tensor("output.weight") == nullptr;
  return c;
}

}  // namespace ringtide::model
