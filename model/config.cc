#include "model/config.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "model/rope_frequencies.h"

namespace ringtide::model {
namespace {

constexpr std::string_view kArchitecture = "llama";

// Values that would change what the forward pass must compute, and the one at which they do
// nothing.
struct Neutral {
  std::string_view key;
  double value;
};
constexpr Neutral kNeutral[] = {
    {"llama.expert_count", 0},
    {"llama.expert_used_count", 0},
    {"llama.attention.sliding_window", 0},
    {"llama.attention.clamp_kqv", 0},
    {"llama.attention.max_alibi_bias", 0},
    {"llama.attn_logit_softcapping", 0},
    {"llama.final_logit_softcapping", 0},
    {"llama.attention.temperature_length", 0},
    {"llama.attention.scale", 0},
    {"llama.logit_scale", 1},
    {"llama.residual_scale", 1},
    {"llama.embedding_scale", 1},
    {"llama.rope.scale_linear", 1},
    {"llama.rope.scaling.attn_factor", 1},
};

class ConfigReader {
 public:
  explicit ConfigReader(const GgufFile& file) : file_(file) {}

  int32_t integer(std::string_view key, int64_t low, int64_t high) const {
    return in_range(key, file_.require<int64_t>(key), low, high);
  }
  int32_t integer(std::string_view key, int64_t low, int64_t high, int32_t otherwise) const {
    const auto value = file_.find<int64_t>(key);
    return value ? in_range(key, *value, low, high) : otherwise;
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
};

void refuse_unsupported(const GgufFile& file, const ConfigReader& in) {
  for (const Neutral& neutral : kNeutral) {
    const GgufEntry* e = file.entry(neutral.key);
    if (e == nullptr) continue;
    const bool real = e->kind == GgufKind::Float32 || e->kind == GgufKind::Float64;
    const double value = real ? *file.find<double>(neutral.key)
                              : static_cast<double>(*file.find<int64_t>(neutral.key));
    if (value != neutral.value) {
      in.refuse(neutral.key, std::to_string(value), "a model that uses this is not supported");
    }
  }
  if (!file.find<bool>("llama.attention.causal").value_or(true)) {
    in.refuse("llama.attention.causal", "false", "only causal models generate text");
  }
}

std::vector<float> frequency_factors(const GgufFile& file, int pairs) {
  const GgufTensor* t = file.tensor("rope_freqs.weight");
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

Llama3Scaling llama3_scaling(const GgufFile& file, const ConfigReader& in) {
  const auto factor = [&](const char* key, double otherwise) {
    return in.positive(key, file.find<double>(key).value_or(otherwise));
  };
  Llama3Scaling scaling;
  scaling.factor =
      in.positive("llama.rope.scaling.factor", file.require<double>("llama.rope.scaling.factor"));
  scaling.low_freq_factor = factor("llama.rope.scaling.low_freq_factor", 1);
  scaling.high_freq_factor = factor("llama.rope.scaling.high_freq_factor", 4);
  scaling.original_context = in.integer("llama.rope.scaling.original_context_length", 1,
                                        std::numeric_limits<int32_t>::max());
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    in.refuse("llama.rope.scaling.high_freq_factor", std::to_string(scaling.high_freq_factor),
              "it must be above the low one");
  }
  return scaling;
}

std::vector<double> read_frequencies(const GgufFile& file, const ConfigReader& in, int head_dim) {
  const double base = in.positive("llama.rope.freq_base",
                                  file.find<double>("llama.rope.freq_base").value_or(10000.0));
  std::vector<double> frequencies = rope_frequencies(head_dim, base);
  const std::vector<float> factors = frequency_factors(file, head_dim / 2);
  if (!factors.empty()) scale_each(frequencies, factors);

  const char* const kType = "llama.rope.scaling.type";
  const std::string type(file.find<std::string_view>(kType).value_or("none"));
  if (type == "linear") {
    scale_linear(frequencies, in.positive("llama.rope.scaling.factor",
                                          file.require<double>("llama.rope.scaling.factor")));
  } else if (type == "llama3") {
    // The tensor, where there is one, is the same scaling already worked out.
    if (factors.empty()) scale_llama3(frequencies, llama3_scaling(file, in));
  } else if (type != "none") {
    in.refuse(kType, quoted(type), "supported: none, linear, llama3");
  }
  return frequencies;
}

int32_t read_vocabulary(const GgufFile& file, const ConfigReader& in) {
  constexpr int64_t kMost = 1 << 24;
  const GgufTensor* embedding = file.tensor("token_embd.weight");
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
  if (const auto size = file.find<uint64_t>("llama.vocab_size")) agrees("llama.vocab_size", *size);
  if (const GgufEntry* tokens = file.entry("tokenizer.ggml.tokens")) {
    agrees("the length of tokenizer.ggml.tokens", tokens->count);
  }
  return static_cast<int32_t>(rows);
}

}  // namespace

ModelConfig read_config(const GgufFile& file) {
  const ConfigReader in(file);
  ModelConfig c;
  c.architecture = file.require<std::string_view>("general.architecture");
  if (c.architecture != kArchitecture) {
    in.refuse("general.architecture", quoted(c.architecture),
              "supported: " + std::string(kArchitecture));
  }
  c.name = file.find<std::string_view>("general.name").value_or("");
  c.layers = in.integer("llama.block_count", 1, 1024);
  c.hidden = in.integer("llama.embedding_length", 1, 1 << 17);
  c.ffn = in.integer("llama.feed_forward_length", 1, 1 << 20);
  c.trained_context = in.integer("llama.context_length", 1, std::numeric_limits<int32_t>::max());
  c.heads = in.integer("llama.attention.head_count", 1, 1024);
  c.kv_heads = in.integer("llama.attention.head_count_kv", 1, c.heads, c.heads);
  if (c.heads % c.kv_heads != 0) {
    in.refuse("llama.attention.head_count_kv", std::to_string(c.kv_heads),
              "it must divide the " + std::to_string(c.heads) + " heads");
  }
  const char* const kKeyLength = "llama.attention.key_length";
  if (file.entry(kKeyLength) == nullptr && c.hidden % c.heads != 0) {
    in.refuse("llama.attention.head_count", std::to_string(c.heads),
              "it must divide the embedding length " + std::to_string(c.hidden));
  }
  c.head_dim = in.integer(kKeyLength, 2, 1024, c.hidden / c.heads);
  if (c.head_dim < 2 || c.head_dim > 1024 || c.head_dim % 2 != 0) {
    in.refuse(kKeyLength, std::to_string(c.head_dim), "a head must have an even 2 to 1024 values");
  }
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    const int32_t value = in.integer(key, 1, 1 << 17, c.head_dim);
    if (value != c.head_dim) {
      in.refuse(key, std::to_string(value),
                "only the whole head, " + std::to_string(c.head_dim) + " values, is supported");
    }
  }
  const char* const kEpsilon = "llama.attention.layer_norm_rms_epsilon";
  c.norm_eps = file.require<float>(kEpsilon);
  if (!std::isfinite(c.norm_eps) || c.norm_eps < 0 || c.norm_eps > 1) {
    in.refuse(kEpsilon, std::to_string(c.norm_eps), "it must be from 0 to 1");
  }
  refuse_unsupported(file, in);
  c.rope_inv_freq = read_frequencies(file, in, c.head_dim);
  c.vocabulary = read_vocabulary(file, in);
  return c;
}

}  // namespace ringtide::model
