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

  for (int layer = 0; layer < c.layers; ++layer) {
    const LayerTensors& t = tensors_.layers[layer];
    const CpuLayer& w = weights_.layers[layer];

    // attention: x += wo * attend(rope(wq * norm(x)), rope(wk * norm(x)), wv * norm(x))
    kernels::rms_norm(x, t.attention_norm.data(), c.norm_eps, rows, c.hidden, act.h.data(),
                      threads_);
    kernels::matmul(act.h.data(), rows, w.wq, act.q.data(), Write::Replace, threads_);
    kernels::matmul(act.h.data(), rows, w.wk, act.k.data(), Write::Replace, threads_);
    kernels::matmul(act.h.data(), rows, w.wv, act.v.data(), Write::Replace, threads_);
    int64_t at = 0;
    for (const Segment& s : segments) {
      s.context->put(layer, act.k.data() + at * kv_row, act.v.data() + at * kv_row);
      attention.run(*s.context, layer, act.q.data() + at * q_row, act.attn.data() + at * q_row);
      at += static_cast<int64_t>(s.tokens.size());
    }
    kernels::matmul(act.attn.data(), rows, w.wo, x, Write::Add, threads_);

    // feed-forward: x += down * (silu(gate * norm(x)) . (up * norm(x)))
    kernels::rms_norm(x, t.ffn_norm.data(), c.norm_eps, rows, c.hidden, act.h.data(), threads_);
    kernels::matmul(act.h.data(), rows, w.gate, act.gate.data(), Write::Replace, threads_);
    kernels::matmul(act.h.data(), rows, w.up, act.up.data(), Write::Replace, threads_);
    kernels::silu_mul(act.gate.data(), act.up.data(), rows * c.ffn, threads_);
    kernels::matmul(act.gate.data(), rows, w.down, x, Write::Add, threads_);
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
