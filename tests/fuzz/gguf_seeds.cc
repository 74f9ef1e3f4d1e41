// Writes small sound model files from which the GGUF fuzzer starts: gguf_seeds FOLDER.
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include "tests/support/tiny_gguf.h"

using ringtide::testing::GgufBuilder;

namespace {

// A model with the least of everything: its file is all structure.
GgufBuilder smallest(const char* type, const std::string& architecture = "llama") {
  GgufBuilder file = ringtide::testing::tiny_gguf({.architecture = architecture,
                                                   .layers = 1,
                                                   .hidden = 32,
                                                   .heads = 2,
                                                   .kv_heads = 1,
                                                   .ffn = 32,
                                                   .type = type});
  file.set("tokenizer.ggml.tokens", std::vector<std::string>{"<|im_end|>", "a", "b", "ab"});
  file.set("tokenizer.ggml.token_type", std::vector<int32_t>{3, 1, 1, 1});
  file.set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  file.set("tokenizer.chat_template", std::string("{{ messages }}"));
  file.set(architecture + ".vocab_size", uint32_t{4});
  auto& embedding = file.tensor("token_embd.weight");
  embedding.shape[1] = 4;
  embedding.bytes.resize(32 * 4 * sizeof(float));
  std::erase_if(file.tensors, [&](const auto& t) {
    return t.name.starts_with("blk.") && std::string_view(type) == "F32";
  });
  return file;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: gguf_seeds FOLDER\n";
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/";
  for (const char* type : {"F32", "Q8_0", "Q4_1"}) {
    ringtide::testing::write_file(folder + type, smallest(type).build());
  }

  for (const char* architecture : {"qwen2", "qwen3", "gemma3"}) {
    ringtide::testing::write_file(folder + architecture, smallest("Q8_0", architecture).build());
  }

  GgufBuilder old = smallest("F32");
  old.version = 2;
  old.alignment = 64;
  old.set("general.alignment", uint32_t{64});
  ringtide::testing::write_file(folder + "version_2", old.build());

  GgufBuilder scaled = smallest("F32");
  scaled.set("llama.rope.scaling.type", std::string("llama3"));
  scaled.set("llama.rope.scaling.factor", 8.0f);
  scaled.set("llama.rope.scaling.low_freq_factor", 1.0f);
  scaled.set("llama.rope.scaling.high_freq_factor", 4.0f);
  scaled.set("llama.rope.scaling.original_context_length", uint64_t{64});
  scaled.tensors.push_back({"rope_freqs.weight", {8}, 0, std::vector<std::byte>(32)});
  ringtide::testing::write_file(folder + "scaled", scaled.build());

  GgufBuilder other = smallest("F32");
  other.set("general.floats", std::vector<float>{1, 2});
  other.set("general.empty", std::vector<std::string>{});
  other.set("llama.attention.key_length", int32_t{16});
  other.set("llama.attention.causal", true);
  other.tensors.push_back({"unknown", {2, 2, 2, 2}, 4711, std::vector<std::byte>(16)});
  ringtide::testing::write_file(folder + "other", other.build());
}
