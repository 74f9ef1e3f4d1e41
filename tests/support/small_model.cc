#include "tests/support/small_model.h"

#include <cmath>
#include <random>

namespace ringtide::testing {
namespace {

struct Held {
  SmallModel source;  // what the tensors point into
  model::Model model;
};

model::RawMatrix raw(const std::vector<float>& w, int64_t n) {
  model::RawMatrix m;
  m.rows = reinterpret_cast<const std::byte*>(w.data());
  m.n = n;
  m.k = static_cast<int64_t>(w.size()) / n;
  return m;
}

}  // namespace

SmallModel small_model(uint64_t seed, const SmallShape& s) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  auto matrix = [&](int64_t n, int64_t k, float gain) {
    std::vector<float> w(n * k);
    for (float& x : w) x = normal(random) * gain / std::sqrt(static_cast<float>(k));
    return w;
  };
  SmallModel m;
  m.config.architecture = "llama";
  m.config.name = "small";
  m.config.layers = s.layers;
  m.config.hidden = s.hidden;
  m.config.heads = s.heads;
  m.config.kv_heads = s.kv_heads;
  m.config.head_dim = s.head_dim;
  m.config.ffn = s.ffn;
  m.config.vocabulary = s.vocabulary;
  m.config.trained_context = 1 << 20;
  m.config.embedding_scale = s.embedding_scale;
  m.config.attention_scale =
      s.attention_scale > 0 ? s.attention_scale : 1 / std::sqrt(static_cast<float>(s.head_dim));
  if (s.gelu) m.config.activation = model::Activation::GeluTanh;
  m.config.sliding_window = s.sliding_window;
  for (int l = 0; s.sliding_window > 0 && l < s.layers; ++l)
    m.config.sliding.push_back(s.period == 0 || l % s.period != s.period - 1);
  for (int j = 0; s.sliding_base > 0 && j < s.head_dim / 2; ++j)
    m.config.sliding_inv_freq.push_back(std::pow(s.sliding_base, -2.0 * j / s.head_dim));
  for (int j = 0; j < s.head_dim / 2; ++j)
    m.config.rope_inv_freq.push_back(std::pow(1000.0, -2.0 * j / s.head_dim));
  m.embedding = matrix(s.vocabulary, s.hidden, std::sqrt(static_cast<float>(s.hidden)));
  m.output_norm.assign(s.hidden, 1.0f);
  const int q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  for (int l = 0; l < s.layers; ++l) {
    SmallModel::Layer layer;
    layer.attention_norm.assign(s.hidden, 1.1f);
    layer.ffn_norm.assign(s.hidden, 0.9f);
    // Large query and key gains: attention is far from uniform, so that a wrong key shows.
    layer.wq = matrix(q, s.hidden, 2.0f);
    layer.wk = matrix(kv, s.hidden, 2.0f);
    layer.wv = matrix(kv, s.hidden, 1.0f);
    const float gain = l < s.idle_layers ? 0.0f : 1.0f;
    layer.wo = matrix(s.hidden, q, gain);
    layer.gate = matrix(s.ffn, s.hidden, 1.0f);
    layer.up = matrix(s.ffn, s.hidden, 1.0f);
    layer.down = matrix(s.hidden, s.ffn, gain);
    auto vector = [&](bool there, int64_t n, float mean, float deviation) {
      std::vector<float> v(there ? n : 0);
      for (float& x : v) x = mean + deviation * normal(random);
      return v;
    };
    layer.q_bias = vector(s.biases, q, 0, 0.5f);
    layer.k_bias = vector(s.biases, kv, 0, 0.5f);
    layer.v_bias = vector(s.biases, kv, 0, 0.5f);
    layer.q_norm = vector(s.head_norms, s.head_dim, 1.5f, 0.3f);
    layer.k_norm = vector(s.head_norms, s.head_dim, 1.5f, 0.3f);
    layer.post_attention_norm = vector(s.post_norms, s.hidden, 0.7f, 0.2f);
    layer.post_ffn_norm = vector(s.post_norms, s.hidden, 0.7f, 0.2f);
    m.layers.push_back(std::move(layer));
  }

  auto held = std::make_shared<Held>();
  held->source = m;
  const SmallModel& source = held->source;
  held->model.config = source.config;
  held->model.fingerprint = "small-" + std::to_string(seed);
  model::Tensors& tensors = held->model.tensors;
  tensors.embedding = tensors.output = raw(source.embedding, s.vocabulary);
  tensors.output_norm = source.output_norm;
  for (const auto& l : source.layers) {
    model::LayerTensors& t = tensors.layers.emplace_back();
    t.attention_norm = l.attention_norm;
    t.q_bias = l.q_bias;
    t.k_bias = l.k_bias;
    t.v_bias = l.v_bias;
    t.q_norm = l.q_norm;
    t.k_norm = l.k_norm;
    t.post_attention_norm = l.post_attention_norm;
    t.post_ffn_norm = l.post_ffn_norm;
    t.wq = raw(l.wq, q);
    t.wk = raw(l.wk, kv);
    t.wv = raw(l.wv, kv);
    t.wo = raw(l.wo, s.hidden);
    t.ffn_norm = l.ffn_norm;
    t.gate = raw(l.gate, s.ffn);
    t.up = raw(l.up, s.ffn);
    t.down = raw(l.down, s.hidden);
  }
  m.model = std::shared_ptr<const model::Model>(held, &held->model);
  return m;
}

}  // namespace ringtide::testing
