// tiny_gguf: writes a small model with random weights, for tests that run whole programs.
#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>

#include "tests/support/tiny_gguf.h"

int main(int argc, char** argv) {
  ringtide::testing::TinyModel model;
  std::string path;
  bool untied = false;
  CLI::App app{"Writes a small GGUF file with random weights."};
  app.add_option("OUT", path, "The file to write")->required();
  app.add_option("--architecture", model.architecture, "llama, mistral3, qwen2, qwen3 or gemma3")
      ->capture_default_str();
  app.add_option("--layers", model.layers, "Layers")->capture_default_str();
  app.add_option("--hidden", model.hidden, "Width, a multiple of 32")->capture_default_str();
  app.add_option("--heads", model.heads, "Query heads")->capture_default_str();
  app.add_option("--kv-heads", model.kv_heads, "Key and value heads")->capture_default_str();
  app.add_option("--head-dim", model.head_dim, "Values a head (0: hidden / heads)")
      ->capture_default_str();
  app.add_option("--ffn", model.ffn, "Inner width, a multiple of 32")->capture_default_str();
  app.add_option("--context", model.context, "Trained window, tokens")->capture_default_str();
  app.add_option("--type", model.type, "F32, F16, BF16, Q8_0, Q4_0 or Q4_1")->capture_default_str();
  app.add_option("--embedding-type", model.embedding_type, "As --type, of the embedding")
      ->capture_default_str();
  app.add_option("--linear-scaling", model.linear_scaling, "Factor of RoPE scaling (0: none)");
  app.add_flag("--rope-factors", model.rope_factors, "A tensor of RoPE factors");
  app.add_option("--sliding-window", model.sliding_window, "Tokens (0: none; gemma3: 24)");
  app.add_flag("--untied", untied, "A separate output matrix");
  app.add_option("--seed", model.seed, "Random seed")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  model.tied = !untied;
  try {
    ringtide::testing::write_tiny_gguf(path, model);
  } catch (const std::exception& error) {
    std::cerr << "tiny_gguf: " << error.what() << "\n";
    return 1;
  }
}
