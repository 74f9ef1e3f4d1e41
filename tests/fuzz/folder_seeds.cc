// Writes small sound model folders from which the folder fuzzer starts: folder_seeds FOLDER.
#include <cstring>
#include <iostream>
#include <string>

#include "tests/support/tiny_folder.h"

using ringtide::testing::TinyFolder;

namespace {

std::vector<std::byte> input(const TinyFolder& folder) {
  const std::string config = folder.json.at("config.json").dump();
  const auto length = static_cast<uint32_t>(config.size());
  const auto tensors = ringtide::testing::safetensors(folder.tensors);
  std::vector<std::byte> out(sizeof length + length + tensors.size());
  std::memcpy(out.data(), &length, sizeof length);
  std::memcpy(out.data() + sizeof length, config.data(), length);
  std::copy(tensors.begin(), tensors.end(), out.begin() + sizeof length + length);
  return out;
}

// A model with the least of everything: its files are all structure.
TinyFolder smallest(const std::string& architecture, const std::string& type) {
  TinyFolder folder = ringtide::testing::tiny_folder({.architecture = architecture,
                                                      .layers = 1,
                                                      .hidden = 32,
                                                      .heads = 2,
                                                      .kv_heads = 1,
                                                      .ffn = 32},
                                                     type);
  auto& embedding = folder.tensors.at("model.embed_tokens.weight");
  embedding.bytes.resize(embedding.bytes.size() / embedding.shape[0] * 4);
  embedding.shape[0] = folder.json["config.json"]["vocab_size"] = 4;
  return folder;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: folder_seeds FOLDER\n";
    return 2;
  }
  const auto write = [&](const std::string& name, const TinyFolder& folder) {
    ringtide::testing::write_file(std::string(argv[1]) + "/" + name, input(folder));
  };
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    write(architecture, smallest(architecture, "BF16"));
  }
  TinyFolder scaled = smallest("llama", "F16");
  scaled.json["config.json"]["rope_scaling"] = {{"rope_type", "llama3"},
                                                {"factor", 8.0},
                                                {"low_freq_factor", 1.0},
                                                {"high_freq_factor", 4.0},
                                                {"original_max_position_embeddings", 64}};
  write("scaled", scaled);
  TinyFolder newer = smallest("gemma3", "F32");
  newer.json["config.json"]["layer_types"] = {"full_attention"};
  newer.json["config.json"]["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 300.0}}}};
  write("newer", newer);
  TinyFolder index = smallest("llama", "F32");
  index.json["config.json"] = {{"metadata", {{"total_size", 4096}}},
                               {"weight_map",
                                {{"model.embed_tokens.weight", "model-00001-of-00002.safetensors"},
                                 {"model.norm.weight", "model-00002-of-00002.safetensors"}}}};
  write("index", index);
}
