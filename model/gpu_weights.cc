#include "model/gpu_weights.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace ringtide::model {

using kernels::cuda::bf16;

namespace {

constexpr int64_t kAlignment = 1024;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
int64_t q_width(const ModelConfig& c) { return int64_t{c.heads} * c.head_dim; }
int64_t kv_width(const ModelConfig& c) { return int64_t{c.kv_heads} * c.head_dim; }

bool tied(const Model& model) {
  return model.tensors.output.rows == model.tensors.embedding.rows &&
         model.tensors.output.rows != nullptr;
}

int64_t layer_bytes(const ModelConfig& c) {
  const int64_t qkv = q_width(c) + 2 * kv_width(c);
  return aligned(2 * qkv * c.hidden) + aligned(2 * q_width(c) * c.hidden) +
         aligned(2 * 2 * int64_t{c.ffn} * c.hidden) + aligned(2 * int64_t{c.ffn} * c.hidden) +
         2 * aligned(4 * int64_t{c.hidden}) + aligned(4 * qkv) + 2 * aligned(4 * int64_t{c.head_dim});
}

}  // namespace

// Fills the weights' memory from front to back.
class GpuWeights::Loader {
 public:
  Loader(kernels::Gpu& gpu, const Model& model, std::byte* memory)
      : gpu_(gpu), random_(model.tensors.layers.empty()), at_(memory) {
    if (random_) return;
    int64_t raw = 0, order = 0;
    for_each_matrix(model.tensors, [&](const RawMatrix& m) {
      raw = std::max(raw, m.bytes());
      order = std::max<int64_t>(order, m.order.size());
    });
    raw_ = static_cast<std::byte*>(gpu.allocate(raw));
    order_ = static_cast<int32_t*>(gpu.allocate(order * 4 + 4));
  }
  ~Loader() {
    gpu_.release(raw_);
    gpu_.release(order_);
  }

  struct Part {
    const RawMatrix* raw;  // null: random
    int64_t n;
  };
  // Matrices of k inputs one below the other.
  const bf16* matrix(std::initializer_list<Part> parts, int64_t k) {
    std::byte* const begin = at_;
    int64_t rows = 0;
    for (const Part& part : parts) {
      auto* dst = reinterpret_cast<bf16*>(begin + rows * k * 2);
      if (random_)
        gpu_.fill_normal(dst, part.n * k, 1.0f / std::sqrt(static_cast<float>(k)), ++seed_);
      else
        upload(*part.raw, dst);
      rows += part.n;
    }
    at_ += aligned(rows * k * 2);
    return reinterpret_cast<const bf16*>(begin);
  }
  // One after the other; null where all are empty.
  const float* vector(std::initializer_list<std::span<const float>> parts) {
    auto* const begin = reinterpret_cast<float*>(at_);
    int64_t n = 0;
    for (const auto part : parts) {
      gpu_.copy(begin + n, part.data(), static_cast<int64_t>(part.size_bytes()));
      n += static_cast<int64_t>(part.size());
    }
    at_ += aligned(n * 4);
    return n == 0 ? nullptr : begin;
  }

  template <class F>
  static void for_each_matrix(const Tensors& t, F f) {
    f(t.embedding);
    f(t.output);
    for (const LayerTensors& l : t.layers)
      for (const RawMatrix* m : {&l.wq, &l.wk, &l.wv, &l.wo, &l.gate, &l.up, &l.down}) f(*m);
  }

 private:
  void upload(const RawMatrix& m, bf16* dst) {
    gpu_.copy(raw_, m.rows, m.bytes());
    if (!m.order.empty())
      gpu_.copy(order_, m.order.data(), static_cast<int64_t>(m.order.size_bytes()));
    gpu_.dequantize(m.type, raw_, m.n, m.k, m.order.empty() ? nullptr : order_, dst);
  }

  kernels::Gpu& gpu_;
  const bool random_;
  std::byte* at_;
  std::byte* raw_ = nullptr;
  int32_t* order_ = nullptr;
  uint64_t seed_ = 0;
};

GpuWeights::GpuWeights(kernels::Gpu& gpu, const Model& model)
    : gpu_(gpu), memory_(static_cast<std::byte*>(gpu.allocate(bytes(model)))) {
  const ModelConfig& c = model.config;
  const Tensors& t = model.tensors;
  const std::vector<float> ones(t.layers.empty() ? c.hidden : 0, 1.0f);
  const LayerTensors none;
  Loader in(gpu, model, memory_);
  embedding_ = in.matrix({{&t.embedding, c.vocabulary}}, c.hidden);
  output_ = tied(model) ? embedding_ : in.matrix({{&t.output, c.vocabulary}}, c.hidden);
  output_norm_ = in.vector({t.output_norm, ones});
  for (int32_t i = 0; i < c.layers; ++i) {
    const LayerTensors& l = t.layers.empty() ? none : t.layers[i];
    GpuLayerWeights w;
    w.attention_norm = in.vector({l.attention_norm, ones});
    w.qkv = in.matrix({{&l.wq, q_width(c)}, {&l.wk, kv_width(c)}, {&l.wv, kv_width(c)}}, c.hidden);
    w.qkv_bias = in.vector({l.q_bias, l.k_bias, l.v_bias});
    w.q_norm = in.vector({l.q_norm});
    w.k_norm = in.vector({l.k_norm});
    w.wo = in.matrix({{&l.wo, c.hidden}}, q_width(c));
    w.ffn_norm = in.vector({l.ffn_norm, ones});
    w.gate_up = in.matrix({{&l.gate, c.ffn}, {&l.up, c.ffn}}, c.hidden);
    w.down = in.matrix({{&l.down, c.hidden}}, c.ffn);
    layers_.push_back(w);
  }
  gpu.synchronize();
}

GpuWeights::~GpuWeights() { gpu_.release(memory_); }

int64_t GpuWeights::bytes(const Model& model) {
  const ModelConfig& c = model.config;
  const int64_t vocabulary = aligned(2 * int64_t{c.vocabulary} * c.hidden);
  return (tied(model) ? 1 : 2) * vocabulary + aligned(4 * int64_t{c.hidden}) +
         c.layers * layer_bytes(c);
}

int64_t GpuWeights::bytes_per_token(const Model& model) {
  const ModelConfig& c = model.config;
  const int64_t layer = (2 * q_width(c) + 2 * kv_width(c) + 3 * int64_t{c.ffn}) * c.hidden;
  return 2 * (c.layers * layer + int64_t{c.vocabulary} * c.hidden);
}

std::string GpuWeights::refusal(const Model& model) {
  const ModelConfig& c = model.config;
  if (c.head_dim != 64 && c.head_dim != 128 && c.head_dim != 256)
    return "its heads have " + std::to_string(c.head_dim) + " values; the GPU serves 64, 128 and 256";
  if (c.hidden % 8 != 0 || c.ffn % 8 != 0)
    return "its layers are not multiples of 8 wide";
  if (!c.sliding.empty()) return "it has layers that slide a window, which the GPU does not do yet";
  if (std::abs(c.attention_scale * std::sqrt(static_cast<float>(c.head_dim)) - 1) > 1e-5f)
    return "it scales attention in a way that the GPU does not do yet";
  for (const LayerTensors& l : model.tensors.layers)
    if (!l.post_attention_norm.empty() || !l.post_ffn_norm.empty())
      return "it normalises the results of its layers, which the GPU does not do yet";
  return "";
}

}  // namespace ringtide::model
