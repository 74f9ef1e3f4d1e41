#include "tests/support/tiny_gguf.h"

#include <cmath>
#include <random>
#include <stdexcept>
#include <utility>

#include "tests/support/quantize.h"

namespace ringtide::testing {
namespace {

// GPT-2's stand-ins: printable Latin-1 bytes are their own character, the others are taken in order
// from U+0100 on. In order of the tokens.
std::vector<std::string> byte_tokens() {
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  };
  const auto utf8 = [](int c) {
    if (c < 0x80) return std::string(1, static_cast<char>(c));
    return std::string{static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
  };
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) {
    if (printable(b)) tokens.push_back(utf8(b));
  }
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    if (!printable(b)) tokens.push_back(utf8(next++));
  }
  return tokens;
}

// Pairs in order of rank; "\u0120" stands for the space.
const std::pair<const char*, const char*> kMerges[] = {
    {"\u0120", "t"},   {"\u0120", "a"},      {"h", "e"},
    {"i", "n"},        {"r", "e"},           {"o", "n"},
    {"\u0120t", "he"}, {"e", "r"},           {"\u0120", "s"},
    {"a", "t"},        {"\u0120", "w"},      {"\u0120", "o"},
    {"o", "u"},        {"i", "s"},           {"e", "n"},
    {"\u0120", "c"},   {"o", "r"},           {"in", "g"},
    {"a", "n"},        {"e", "s"},           {"\u0120", "b"},
    {"e", "d"},        {"i", "t"},           {"\u0120", "in"},
    {"\u0120o", "f"},  {"\u0120a", "n"},     {"\u0120an", "d"},
    {"l", "l"},        {"\u0120", "\u0120"}, {"\u0120\u0120", "\u0120\u0120"},
    {"a", "r"},        {"a", "l"},           {"u", "s"}};

const char kTemplate[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

void add_tokenizer(GgufBuilder& file) {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types(tokens.size(), 3);  // control
  for (std::string& token : byte_tokens()) tokens.push_back(std::move(token));
  std::vector<std::string> merges;
  for (const auto& [left, right] : kMerges) {
    merges.push_back(std::string(left) + " " + right);
    tokens.push_back(std::string(left) + right);
  }
  types.resize(tokens.size(), 1);  // normal

  file.set("tokenizer.ggml.model", std::string("gpt2"));
  file.set("tokenizer.ggml.pre", std::string("smollm"));
  file.set("tokenizer.ggml.tokens", std::move(tokens));
  file.set("tokenizer.ggml.token_type", std::move(types));
  file.set("tokenizer.ggml.merges", std::move(merges));
  file.set("tokenizer.ggml.bos_token_id", uint32_t{kTinyStart});
  file.set("tokenizer.ggml.eos_token_id", uint32_t{kTinyEnd});
  file.set("tokenizer.ggml.unknown_token_id", uint32_t{kTinyEndOfText});
  file.set("tokenizer.ggml.padding_token_id", uint32_t{kTinyEnd});
  file.set("tokenizer.ggml.add_bos_token", false);
  file.set("tokenizer.ggml.add_space_prefix", false);
  file.set("tokenizer.chat_template", std::string(kTemplate));
}

// Random values whose sequence is the same with every library.
class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}

  // About normal: mean 0, deviation 1, bounded by 2 sqrt(3).
  float normal() {
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(bits_() >> 11) * 0x1p-53;
    return static_cast<float>((sum - 2) * std::sqrt(3.0));
  }
  bool coin() { return (bits_() >> 63) != 0; }

 private:
  std::mt19937_64 bits_;
};

class Tensors {
 public:
  Tensors(GgufBuilder& file, uint64_t seed) : file_(file), random_(seed) {}

  // (n, k) with values of this deviation.
  void matrix(const std::string& name, uint64_t k, uint64_t n, double deviation,
              const std::string& type) {
    std::vector<float> values(k * n);
    for (float& v : values) v = static_cast<float>(deviation) * random_.normal();
    file_.tensors.push_back({name, {k, n}, type_number(type), quantize(type, values)});
  }

  void vector(const std::string& name, uint64_t n, float mean, float deviation) {
    std::vector<float> values(n);
    for (float& v : values) v = mean + deviation * random_.normal();
    file_.tensors.push_back({name, {n}, type_number("F32"), quantize("F32", values)});
  }

  // Around 1; `signs`: around 1 or -1.
  void norm(const std::string& name, uint64_t n, bool signs = false) {
    std::vector<float> values(n);
    for (float& v : values) {
      v = 1 + 0.1f * random_.normal();
      if (signs && random_.coin()) v = -v;
    }
    file_.tensors.push_back({name, {n}, type_number("F32"), quantize("F32", values)});
  }

 private:
  GgufBuilder& file_;
  Random random_;
};

void check(const TinyModel& m, uint32_t head_dim) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(std::string("tiny model: ") + what);
  };
  require(m.layers >= 1 && m.hidden >= 1 && m.heads >= 1 && m.kv_heads >= 1 && m.ffn >= 1 &&
              m.context >= 1,
          "every size must be at least 1");
  require(m.heads % m.kv_heads == 0, "kv_heads must divide heads");
  require(m.head_dim != 0 || m.hidden % m.heads == 0, "heads must divide hidden");
  require(head_dim >= 2 && head_dim % 2 == 0, "a head must have an even number of values");
  require(m.hidden % 32 == 0 && m.ffn % 32 == 0 && m.heads * head_dim % 32 == 0,
          "hidden, ffn and the heads' width must be multiples of 32");
}

}  // namespace

GgufBuilder tiny_gguf(const TinyModel& m) {
  const uint32_t head_dim = m.head_dim != 0 ? m.head_dim : m.hidden / m.heads;
  check(m, head_dim);

  GgufBuilder file;
  const std::string own = m.architecture + ".";
  const bool gemma = m.architecture == "gemma3";
  file.set("general.architecture", m.architecture);
  file.set("general.name", "tiny " + std::to_string(m.seed));
  file.set(own + "block_count", m.layers);
  file.set(own + "context_length", m.context);
  file.set(own + "embedding_length", m.hidden);
  file.set(own + "feed_forward_length", m.ffn);
  file.set(own + "attention.head_count", m.heads);
  file.set(own + "attention.head_count_kv", m.kv_heads);
  file.set(own + "attention.layer_norm_rms_epsilon", 1e-5f);
  if (m.head_dim != 0) {
    file.set(own + "attention.key_length", head_dim);
    file.set(own + "attention.value_length", head_dim);
  }
  file.set(own + "rope.dimension_count", head_dim);
  file.set(own + "rope.freq_base", m.rope_base);
  if (m.linear_scaling != 0) {
    file.set(own + "rope.scaling.type", std::string("linear"));
    file.set(own + "rope.scaling.factor", m.linear_scaling);
  }
  if (const uint32_t window = m.sliding_window != 0 ? m.sliding_window : gemma ? 24 : 0) {
    file.set(own + "attention.sliding_window", window);
  }
  add_tokenizer(file);
  const auto vocabulary = static_cast<uint32_t>(3 + 256 + std::size(kMerges));
  file.set(own + "vocab_size", vocabulary);

  // Layers outweigh the embedding of the last token in the residual stream, attention is sharp, and
  // the last norm has random signs: so the next token depends on the whole context, and a tied
  // model does not just repeat its input.
  const double unit = 1 / std::sqrt(static_cast<double>(m.hidden));
  const uint32_t q_width = m.heads * head_dim;
  const uint32_t kv_width = m.kv_heads * head_dim;
  Tensors tensors(file, m.seed);
  tensors.matrix("token_embd.weight", m.hidden, vocabulary, 0.5, m.embedding_type);
  for (uint32_t i = 0; i < m.layers; ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    tensors.norm(block + "attn_norm.weight", m.hidden);
    tensors.matrix(block + "attn_q.weight", m.hidden, q_width, 1.5 * unit, m.type);
    tensors.matrix(block + "attn_k.weight", m.hidden, kv_width, 1.5 * unit, m.type);
    tensors.matrix(block + "attn_v.weight", m.hidden, kv_width, 2 * unit, m.type);
    if (m.architecture == "qwen2") {
      tensors.vector(block + "attn_q.bias", q_width, 0, 0.5f);
      tensors.vector(block + "attn_k.bias", kv_width, 0, 0.5f);
      tensors.vector(block + "attn_v.bias", kv_width, 0, 0.5f);
    }
    if (m.architecture == "qwen3" || gemma) {
      tensors.vector(block + "attn_q_norm.weight", head_dim, 1.5f, 0.3f);
      tensors.vector(block + "attn_k_norm.weight", head_dim, 1.5f, 0.3f);
    }
    if (gemma) {
      tensors.vector(block + "post_attention_norm.weight", m.hidden, 2, 0.5f);
      tensors.vector(block + "post_ffw_norm.weight", m.hidden, 2, 0.5f);
    }
    tensors.matrix(block + "attn_output.weight", q_width, m.hidden,
                   1 / std::sqrt(static_cast<double>(q_width)), m.type);
    tensors.norm(block + "ffn_norm.weight", m.hidden);
    tensors.matrix(block + "ffn_gate.weight", m.hidden, m.ffn, 2 * unit, m.type);
    tensors.matrix(block + "ffn_up.weight", m.hidden, m.ffn, 2 * unit, m.type);
    tensors.matrix(block + "ffn_down.weight", m.ffn, m.hidden,
                   1 / std::sqrt(static_cast<double>(m.ffn)), m.type);
  }
  tensors.norm("output_norm.weight", m.hidden, true);
  if (m.rope_factors) {
    std::vector<float> factors(head_dim / 2);
    for (size_t j = 0; j < factors.size(); ++j) {
      factors[j] = 1 + 7 * static_cast<float>(j) / static_cast<float>(factors.size());
    }
    file.tensors.push_back({"rope_freqs.weight", {factors.size()}, 0, quantize("F32", factors)});
  }
  if (!m.tied) tensors.matrix("output.weight", m.hidden, vocabulary, 0.5, m.type);
  return file;
}

}  // namespace ringtide::testing
