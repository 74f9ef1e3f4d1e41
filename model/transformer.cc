#include "model/transformer.h"

#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace ringtide::model {

using kernels::Write;

void Activations::resize(const ModelConfig& c, int64_t rows) {
  const size_t n = static_cast<size_t>(rows);
  if (x.size() >= n * c.hidden) return;
  x.resize(n * c.hidden);
  h.resize(n * c.hidden);
  q.resize(n * c.heads * c.head_dim);
  attn.resize(q.size());
  k.resize(n * c.kv_heads * c.head_dim);
  v.resize(k.size());
  gate.resize(n * c.ffn);
  up.resize(gate.size());
}

void Transformer::forward(std::span<const Segment> segments, ContextAttention& attention,
                          Activations& act) {
  const ModelConfig& c = config_;
  const int64_t q_row = int64_t{c.heads} * c.head_dim, kv_row = int64_t{c.kv_heads} * c.head_dim;
  int64_t rows = 0;
  for (const Segment& s : segments) rows += static_cast<int64_t>(s.tokens.size());
  act.resize(c, rows);

  const auto gate_mul =
      c.activation == Activation::GeluTanh ? kernels::gelu_mul : kernels::silu_mul;

  // embedding: tokens -> x (rows, hidden)
  const RawMatrix& embedding = tensors_.embedding;
  const int64_t embedding_row = kernels::row_bytes(embedding.type, c.hidden);
  float* x = act.x.data();
  for (const Segment& s : segments)
    for (TokenId t : s.tokens) {
      kernels::dequantize(embedding.type, embedding.rows + t * embedding_row, c.hidden, x);
      x += c.hidden;
    }
  x = act.x.data();
  if (c.embedding_scale != 1) {
    for (int64_t i = 0; i < rows * c.hidden; ++i) x[i] *= c.embedding_scale;
  }

  const auto linear = [&](const std::vector<float>& in, const kernels::PackedMatrix& w,
                          const std::vector<float>& bias, std::vector<float>& out) {
    kernels::matmul(in.data(), rows, w, out.data(), Write::Replace, threads_);
    if (!bias.empty()) kernels::add(out.data(), bias.data(), 0, rows, w.n, threads_);
  };
  const auto norm_heads = [&](std::vector<float>& heads, const std::vector<float>& weight, int n) {
    if (weight.empty()) return;
    kernels::rms_norm(heads.data(), weight.data(), c.norm_eps, rows * n, c.head_dim, heads.data(),
                      threads_);
  };
  // x += norm(w * in), where there is such a norm.
  const auto add_to_x = [&](const std::vector<float>& in, const kernels::PackedMatrix& w,
                            const std::vector<float>& norm) {
    if (norm.empty()) return kernels::matmul(in.data(), rows, w, x, Write::Add, threads_);
    float* h = act.h.data();
    kernels::matmul(in.data(), rows, w, h, Write::Replace, threads_);
    kernels::rms_norm(h, norm.data(), c.norm_eps, rows, c.hidden, h, threads_);
    kernels::add(x, h, c.hidden, rows, c.hidden, threads_);
  };

  for (int layer = 0; layer < c.layers; ++layer) {
    const LayerTensors& t = tensors_.layers[layer];
    const CpuLayer& w = weights_.layers[layer];

    // attention: x += wo * attend(rope(wq * norm(x)), rope(wk * norm(x)), wv * norm(x))
    kernels::rms_norm(x, t.attention_norm.data(), c.norm_eps, rows, c.hidden, act.h.data(),
                      threads_);
    linear(act.h, w.wq, t.q_bias, act.q);
    linear(act.h, w.wk, t.k_bias, act.k);
    linear(act.h, w.wv, t.v_bias, act.v);
    norm_heads(act.q, t.q_norm, c.heads);
    norm_heads(act.k, t.k_norm, c.kv_heads);
    int64_t at = 0;
    for (const Segment& s : segments) {
      s.context->put(layer, act.k.data() + at * kv_row, act.v.data() + at * kv_row);
      attention.run(*s.context, layer, act.q.data() + at * q_row, act.attn.data() + at * q_row);
      at += static_cast<int64_t>(s.tokens.size());
    }
    add_to_x(act.attn, w.wo, t.post_attention_norm);

    // feed-forward: x += down * (activation(gate * norm(x)) . (up * norm(x)))
    kernels::rms_norm(x, t.ffn_norm.data(), c.norm_eps, rows, c.hidden, act.h.data(), threads_);
    linear(act.h, w.gate, {}, act.gate);
    linear(act.h, w.up, {}, act.up);
    gate_mul(act.gate.data(), act.up.data(), rows * c.ffn, threads_);
    add_to_x(act.gate, w.down, t.post_ffn_norm);
  }
}

void Transformer::logits(const float* x, int64_t rows, float* logits, std::vector<float>& scratch) {
  const ModelConfig& c = config_;
  scratch.resize(rows * c.hidden);
  kernels::rms_norm(x, tensors_.output_norm.data(), c.norm_eps, rows, c.hidden, scratch.data(),
                    threads_);
  kernels::matmul(scratch.data(), rows, weights_.output, logits, Write::Replace, threads_);
}

}  // namespace ringtide::model
