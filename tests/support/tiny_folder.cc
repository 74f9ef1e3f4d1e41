#include "tests/support/tiny_folder.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/support/quantize.h"

namespace ringtide::testing {
namespace {

using nlohmann::json;

const GgufValue& value(const GgufBuilder& file, const std::string& key) {
  for (const BuiltEntry& e : file.metadata) {
    if (e.key == key) return e.value;
  }
  throw std::out_of_range(key);
}

// "blk.3.attn_q.weight": (name, layer). Empty: none of a layer's.
std::string renamed(const std::string& name, bool post_norms) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  const size_t first = name.find('.'), second = name.find('.', first + 1), last = name.rfind('.');
  const std::string part = name.substr(second + 1, last - second - 1);
  const std::map<std::string, std::string> parts = {
      {"attn_norm", "input_layernorm"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"attn_q_norm", "self_attn.q_norm"},
      {"attn_k_norm", "self_attn.k_norm"},
      {"attn_output", "self_attn.o_proj"},
      {"post_attention_norm", "post_attention_layernorm"},
      {"ffn_norm", post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"},
      {"post_ffw_norm", "post_feedforward_layernorm"}};
  return "model.layers." + name.substr(first + 1, second - first) + parts.at(part) +
         name.substr(last);
}

// Undoes the order in which GGUF keeps the rows of a head.
std::vector<float> half_split(const std::vector<float>& rows, size_t k, size_t head_dim) {
  std::vector<float> out(rows.size());
  for (size_t row = 0; row < rows.size() / k; ++row) {
    const size_t head = row / head_dim * head_dim, j = row % head_dim;
    const size_t from = head + (j < head_dim / 2 ? 2 * j : 2 * (j - head_dim / 2) + 1);
    std::copy_n(rows.begin() + from * k, k, out.begin() + row * k);
  }
  return out;
}

json config_of(const TinyModel& m, size_t head_dim, size_t vocabulary) {
  json c = {{"num_hidden_layers", m.layers},
            {"hidden_size", m.hidden},
            {"intermediate_size", m.ffn},
            {"vocab_size", vocabulary},
            {"max_position_embeddings", m.context},
            {"num_attention_heads", m.heads},
            {"num_key_value_heads", m.kv_heads},
            {"head_dim", head_dim},
            {"rms_norm_eps", 1e-5},
            {"rope_theta", m.rope_base},
            {"tie_word_embeddings", m.tied},
            {"transformers_version", "4.51.0"}};
  const std::map<std::string, std::string> classes = {{"llama", "LlamaForCausalLM"},
                                                      {"qwen2", "Qwen2ForCausalLM"},
                                                      {"qwen3", "Qwen3ForCausalLM"},
                                                      {"gemma3", "Gemma3ForCausalLM"}};
  c["architectures"] = {m.architecture == "llama" && m.sliding_window > 0
                            ? "MistralForCausalLM"
                            : classes.at(m.architecture)};
  if (m.sliding_window > 0) c["sliding_window"] = m.sliding_window;
  if (m.linear_scaling > 0) c["rope_scaling"] = {{"type", "linear"}, {"factor", m.linear_scaling}};
  if (m.architecture == "gemma3") {
    c["hidden_activation"] = "gelu_pytorch_tanh";
    c["query_pre_attn_scalar"] = head_dim;
    c["sliding_window"] = m.sliding_window > 0 ? m.sliding_window : 24;
    c["rope_local_base_freq"] = 10000.0;
  } else {
    c["hidden_act"] = "silu";
  }
  return c;
}

json tokenizer_of(const GgufBuilder& gguf) {
  const auto& tokens = std::get<std::vector<std::string>>(value(gguf, "tokenizer.ggml.tokens"));
  const auto& kinds = std::get<std::vector<int32_t>>(value(gguf, "tokenizer.ggml.token_type"));
  json vocab = json::object(), added = json::array();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (kinds[i] == 3) {
      added.push_back({{"id", i}, {"content", tokens[i]}, {"special", true}});
    } else {
      vocab[tokens[i]] = i;
    }
  }
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Digits"}, {"individual_digits", true}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", std::get<std::vector<std::string>>(value(gguf, "tokenizer.ggml.merges"))}}}};
}

}  // namespace

std::vector<std::byte> safetensors(const std::string& header, const std::vector<std::byte>& data) {
  const uint64_t length = header.size();
  std::vector<std::byte> out(sizeof length + length + data.size());
  std::memcpy(out.data(), &length, sizeof length);
  std::memcpy(out.data() + sizeof length, header.data(), length);
  std::copy(data.begin(), data.end(), out.begin() + sizeof length + length);
  return out;
}

std::vector<std::byte> safetensors(const std::map<std::string, FolderTensor>& tensors) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  std::vector<std::byte> data;
  for (const auto& [name, t] : tensors) {
    header[name] = {{"dtype", t.dtype},
                    {"shape", t.shape},
                    {"data_offsets", {data.size(), data.size() + t.bytes.size()}}};
    data.insert(data.end(), t.bytes.begin(), t.bytes.end());
  }
  return safetensors(header.dump(), data);
}

void TinyFolder::write(const std::string& folder) const {
  std::filesystem::create_directories(folder);
  for (const auto& [name, content] : json) std::ofstream(folder + "/" + name) << content.dump();
  std::vector<std::map<std::string, FolderTensor>> parts(shards);
  nlohmann::json map = nlohmann::json::object();
  int at = 0;
  for (const auto& [name, t] : tensors) {
    const int shard = at++ % shards;
    parts[shard][name] = t;
    map[name] = "model-" + std::to_string(shard + 1) + ".safetensors";
  }
  if (shards == 1) return write_file(folder + "/model.safetensors", safetensors(parts[0]));
  std::ofstream(folder + "/model.safetensors.index.json")
      << nlohmann::json{{"metadata", nlohmann::json::object()}, {"weight_map", map}}.dump();
  for (int i = 0; i < shards; ++i) {
    write_file(folder + "/model-" + std::to_string(i + 1) + ".safetensors", safetensors(parts[i]));
  }
}

TinyFolder tiny_folder(const TinyModel& m, const std::string& dtype) {
  const GgufBuilder gguf = tiny_gguf(m);
  const size_t head_dim = m.head_dim != 0 ? m.head_dim : m.hidden / m.heads;
  const bool gemma = m.architecture == "gemma3";
  TinyFolder out;
  for (const BuiltTensor& t : gguf.tensors) {
    std::vector<float> values(t.bytes.size() / sizeof(float));
    std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
    const size_t k = t.shape.size() == 2 ? t.shape[0] : 1;
    if (m.architecture == "llama" && (t.name.find("attn_q.") != std::string::npos ||
                                      t.name.find("attn_k.") != std::string::npos)) {
      values = half_split(values, k, head_dim);
    }
    if (gemma && t.name.ends_with("norm.weight")) {
      for (float& v : values) v -= 1;
    }
    out.tensors[renamed(t.name, gemma)] = {
        dtype, {t.shape.rbegin(), t.shape.rend()}, quantize(dtype, values)};
  }
  const auto& tokens = std::get<std::vector<std::string>>(value(gguf, "tokenizer.ggml.tokens"));
  out.json["config.json"] = config_of(m, head_dim, tokens.size());
  out.json["tokenizer.json"] = tokenizer_of(gguf);
  out.json["tokenizer_config.json"] = {
      {"bos_token", "<|im_start|>"},
      {"eos_token", {{"content", "<|im_end|>"}, {"special", true}}},
      {"chat_template", std::get<std::string>(value(gguf, "tokenizer.chat_template"))}};
  out.json["generation_config.json"] = {{"eos_token_id", {kTinyEnd, kTinyEndOfText}}};
  return out;
}

}  // namespace ringtide::testing
