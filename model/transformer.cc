#include "model/transformer.h"

#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace ringtide::model {

using kernels::Write;

namespace {
// That a layer takes more where its outputs are split: after q, k and v, wo, gate and up, down.
constexpr int kExchanges = 4;

int64_t bytes_of(const CpuLayer& layer) {
  int64_t bytes = 0;
  for (const kernels::PackedMatrix* w :
       {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.gate, &layer.up, &layer.down})
    bytes += kernels::packed_bytes(w->type, w->n, w->k);
  return bytes;
}

}  // namespace

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
  const bool split = ring_ && segments.size() == 1 && ring_->splits(rows);
  const bool split_outputs =
      ring_ && !split && ring_->splits_outputs(bytes_of(weights_.layers.front()), kExchanges);
  const RowRange own = split ? ring_->rows_of(ring_->shard(), rows) : RowRange{0, rows};

  const auto gate_mul =
      c.activation == Activation::GeluTanh ? kernels::gelu_mul : kernels::silu_mul;

  // embedding: tokens -> x (rows, hidden)
  const RawMatrix& embedding = tensors_.embedding;
  const int64_t embedding_row = kernels::row_bytes(embedding.type, c.hidden);
  int64_t row = 0;
  for (const Segment& s : segments)
    for (TokenId t : s.tokens) {
      kernels::dequantize(embedding.type, embedding.rows + t * embedding_row, c.hidden,
                          act.x.data() + row++ * c.hidden);
    }
  // From here on of this engine's own rows: n of them.
  const int64_t n = own.size();
  float* const x = act.x.data() + own.begin * c.hidden;
  float* const h = act.h.data();
  float* const q = act.q.data() + own.begin * q_row;
  float* const k = act.k.data() + own.begin * kv_row;
  float* const v = act.v.data() + own.begin * kv_row;
  if (c.embedding_scale != 1) {
    for (int64_t i = 0; i < n * c.hidden; ++i) x[i] *= c.embedding_scale;
  }

  const auto add_bias = [&](float* out, const std::vector<float>& bias) {
    const auto width = static_cast<int64_t>(bias.size());
    if (!bias.empty()) kernels::add(out, bias.data(), 0, n, width, threads_);
  };
  const auto norm_heads = [&](float* heads, const std::vector<float>& weight, int count) {
    if (weight.empty()) return;
    kernels::rms_norm(heads, weight.data(), c.norm_eps, n * count, c.head_dim, heads, threads_);
  };
  // x += norm(w * in), where there is such a norm.
  const auto add_to_x = [&](const float* in, const kernels::PackedMatrix& w,
                            const std::vector<float>& norm) {
    if (norm.empty() && !split_outputs) return kernels::matmul(in, n, w, x, Write::Add, threads_);
    products(in, n, {{w, h}}, split_outputs);
    if (!norm.empty()) kernels::rms_norm(h, norm.data(), c.norm_eps, n, c.hidden, h, threads_);
    kernels::add(x, h, c.hidden, n, c.hidden, threads_);
  };

  for (int layer = 0; layer < c.layers; ++layer) {
    const LayerTensors& t = tensors_.layers[layer];
    const CpuLayer& w = weights_.layers[layer];

    // attention: x += wo * attend(rope(wq * norm(x)), rope(wk * norm(x)), wv * norm(x))
    kernels::rms_norm(x, t.attention_norm.data(), c.norm_eps, n, c.hidden, h, threads_);
    products(h, n, {{w.wq, q}, {w.wk, k}, {w.wv, v}}, split_outputs);
    add_bias(q, t.q_bias);
    add_bias(k, t.k_bias);
    add_bias(v, t.v_bias);
    norm_heads(q, t.q_norm, c.heads);
    norm_heads(k, t.k_norm, c.kv_heads);
    const bool keys_travel = split && attention.keys_travel(segments.front(), layer);
    if (split) {
      const ShardRing::Columns columns[] = {
          {act.k.data(), kv_row}, {act.v.data(), kv_row}, {act.q.data(), q_row}};
      ring_->share(std::span(columns).first(keys_travel ? 2 : 3), rows);
    }
    int64_t at = 0;
    for (const Segment& s : segments) {
      const auto count = static_cast<int64_t>(s.tokens.size());
      s.context->put(layer, s.position, count, act.k.data() + at * kv_row,
                     act.v.data() + at * kv_row);
      at += count;
    }
    attention.run(segments, layer, own, keys_travel, act.q.data(), act.attn.data());
    add_to_x(act.attn.data() + own.begin * q_row, w.wo, t.post_attention_norm);

    // feed-forward: x += down * (activation(gate * norm(x)) . (up * norm(x)))
    kernels::rms_norm(x, t.ffn_norm.data(), c.norm_eps, n, c.hidden, h, threads_);
    products(h, n, {{w.gate, act.gate.data()}, {w.up, act.up.data()}}, split_outputs);
    gate_mul(act.gate.data(), act.up.data(), n * c.ffn, threads_);
    add_to_x(act.gate.data(), w.down, t.post_ffn_norm);
  }
  if (split) ring_->share_last(act.x.data(), c.hidden, rows);
}

void Transformer::logits(const float* x, int64_t rows, float* logits, std::vector<float>& scratch) {
  const ModelConfig& c = config_;
  scratch.resize(rows * c.hidden);
  kernels::rms_norm(x, tensors_.output_norm.data(), c.norm_eps, rows, c.hidden, scratch.data(),
                    threads_);
  const int64_t bytes = kernels::packed_bytes(weights_.output.type, c.vocabulary, c.hidden);
  products(scratch.data(), rows, {{weights_.output, logits}},
           ring_ && ring_->splits_outputs(bytes, 1));
}

void Transformer::products(const float* in, int64_t rows, std::initializer_list<Product> products,
                           bool split) {
  if (!split) {
    for (const Product& p : products)
      kernels::matmul(in, rows, p.w, p.out, Write::Replace, threads_);
    return;
  }
  int64_t width = 0;
  for (const Product& p : products) width += p.w.n;
  if (part_.size() < static_cast<size_t>(rows * width)) part_.resize(rows * width);
  std::vector<ShardRing::Part> parts;
  float* at = part_.data();
  for (const Product& p : products) {
    const auto part =
        kernels::part_of(p.w, kernels::outputs_of(p.w.n, ring_->shard(), ring_->shards()));
    kernels::matmul(in, rows, part, at, Write::Replace, threads_);
    parts.push_back({at, p.out, p.w.n});
    at += rows * part.n;
  }
  ring_->share_outputs(parts, rows);
}

}  // namespace ringtide::model
