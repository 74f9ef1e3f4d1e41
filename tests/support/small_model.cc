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
  m.config = {"llama",    "small", s.layers,     s.hidden, s.heads, s.kv_heads,
              s.head_dim, s.ffn,   s.vocabulary, 1 << 20,  1e-5f,   {}};
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
    layer.wo = matrix(s.hidden, q, 1.0f);
    layer.gate = matrix(s.ffn, s.hidden, 1.0f);
    layer.up = matrix(s.ffn, s.hidden, 1.0f);
    layer.down = matrix(s.hidden, s.ffn, 1.0f);
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
