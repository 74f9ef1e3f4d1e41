#include "deploy/random_model.h"

#include <cmath>

#include "model/rope_frequencies.h"

namespace ringtide::deploy {

std::shared_ptr<const model::Model> random_model(const std::string& shape) {
  auto made = std::make_shared<model::Model>();
  model::ModelConfig& c = made->config;
  c.architecture = "llama";
  c.name = shape;
  if (shape == "llama3-8b") {
    c.layers = 32;
    c.hidden = 4096;
    c.heads = 32;
    c.kv_heads = 8;
    c.head_dim = 128;
    c.ffn = 14336;
    c.vocabulary = 128256;
    c.trained_context = 8192;
    c.rope_inv_freq = model::rope_frequencies(128, 500000);
  }
  c.attention_scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  made->fingerprint = "random " + shape;
  return made;
}

}  // namespace ringtide::deploy
