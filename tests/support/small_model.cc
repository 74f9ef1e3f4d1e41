#include "tests/support/small_model.h"

#include <cmath>
#include <random>

namespace ringtide::testing {
namespace {

struct Packed {
  std::vector<std::unique_ptr<std::byte[]>> memory;
  SmallModel source;  // norms and embedding are used where they lie
};

kernels::PackedMatrix pack(const std::vector<float>& w, int64_t n, int64_t k, Packed& packed,
                           kernels::ThreadPool& threads) {
  const auto bytes = kernels::packed_bytes(kernels::TensorType::F32, n, k);
  packed.memory.push_back(std::make_unique<std::byte[]>(bytes + 64));
  auto* at = reinterpret_cast<std::byte*>(
      (reinterpret_cast<uintptr_t>(packed.memory.back().get()) + 63) / 64 * 64);
  return kernels::pack(kernels::TensorType::F32, reinterpret_cast<const std::byte*>(w.data()), n, k,
                       {}, at, threads);
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
  m.config = {"llama", "small", s.layers,   s.hidden, s.heads, s.kv_heads, s.head_dim,
              s.ffn,   s.vocabulary, 1 << 20, 1e-5f,    {}};
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

  kernels::ThreadPool threads(1);
  auto packed = std::make_shared<Packed>();
  packed->source = m;
  auto model = std::make_shared<model::Model>();
  const SmallModel& source = packed->source;
  model->config = source.config;
  model->fingerprint = "small-" + std::to_string(seed);
  model->embedding = {kernels::TensorType::F32,
                      reinterpret_cast<const std::byte*>(source.embedding.data())};
  model->output_norm = source.output_norm.data();
  model->output = pack(source.embedding, s.vocabulary, s.hidden, *packed, threads);
  for (const auto& l : source.layers)
    model->layers.push_back({l.attention_norm.data(), pack(l.wq, q, s.hidden, *packed, threads),
                             pack(l.wk, kv, s.hidden, *packed, threads),
                             pack(l.wv, kv, s.hidden, *packed, threads),
                             pack(l.wo, s.hidden, q, *packed, threads), l.ffn_norm.data(),
                             pack(l.gate, s.ffn, s.hidden, *packed, threads),
                             pack(l.up, s.ffn, s.hidden, *packed, threads),
                             pack(l.down, s.hidden, s.ffn, *packed, threads)});
  model->memory = packed;
  m.model = model;
  return m;
}

}  // namespace ringtide::testing
