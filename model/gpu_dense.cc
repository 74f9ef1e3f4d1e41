#include "model/gpu_dense.h"

#include <algorithm>
#include <utility>

namespace ringtide::model {

using kernels::cuda::Write;

namespace {

int32_t part_of(int32_t rows) {
  return std::max(std::min(rows, GpuDense::kPart), kernels::cuda::kFewRows);
}

}  // namespace

GpuDense::GpuDense(kernels::Gpu& gpu, const ModelConfig& c, const GpuWeights& weights, int32_t rows)
    : gpu_(gpu),
      config_(c),
      weights_(weights),
      h_(gpu, int64_t{part_of(rows)} * c.hidden * 2),
      qkv_(gpu, part_of(rows) * qkv_row() * 2),
      gate_up_(gpu, int64_t{part_of(rows)} * c.ffn * 4),
      gated_(gpu, int64_t{part_of(rows)} * c.ffn * 2),
      scratch_(gpu) {
  int64_t floats = 0;
  for (const auto& [n, k] :
       {std::pair(qkv_row(), int64_t{c.hidden}), std::pair(int64_t{c.hidden}, q_row()),
        std::pair(2 * int64_t{c.ffn}, int64_t{c.hidden}),
        std::pair(int64_t{c.hidden}, int64_t{c.ffn}),
        std::pair(int64_t{c.vocabulary}, int64_t{c.hidden})})
    floats = std::max(floats, gpu.few_rows_scratch(n, k));
  scratch_.need(floats * 4);
  gpu.fill(scratch_.full(), 0, floats * 4);
  // What a product of many rows takes when it first runs, and the choice among its kinds, is taken
  // now: later another GPU may wait for this one, and there may be no memory left. The results are
  // nobody's.
  const GpuLayerWeights& w = weights.layers()[0];
  const int64_t most = std::min<int64_t>(part_of(rows), kernels::cuda::kMeasuredRows);
  const GpuBuffer sums(gpu, most * c.hidden * 4);
  gpu.fill(h_.half(), 0, most * c.hidden * 2);
  gpu.fill(gated_.half(), 0, most * c.ffn * 2);
  gpu.fill(sums.half(), 0, most * c.hidden * 4);
  for (int64_t m = kernels::cuda::kLeastMeasured; m <= most; m *= 2) {
    product(h_.half(), w.qkv, m, qkv_row(), c.hidden, qkv_.half(), nullptr, Write::Replace,
            Path::Many);
    product(qkv_.half(), w.wo, m, c.hidden, q_row(), nullptr, sums.full(), Write::Add, Path::Many);
    product(gated_.half(), w.down, m, c.hidden, c.ffn, nullptr, sums.full(), Write::Add,
            Path::Many);
    gated(w.gate_up, m, Path::Many);
  }
  gpu.synchronize();
}

int64_t GpuDense::bytes(const ModelConfig& c, int32_t rows) {
  const int64_t q = int64_t{c.heads} * c.head_dim, kv = int64_t{c.kv_heads} * c.head_dim;
  return part_of(rows) * (2 * (c.hidden + q + 2 * kv) + 6 * int64_t{c.ffn});
}

void GpuDense::product(const bf16* x, const bf16* w, int64_t rows, int64_t n, int64_t k, bf16* y,
                       float* y32, Write write, Path path) {
  const kernels::cuda::Product p{.x = x,
                                 .w = w,
                                 .m = static_cast<int32_t>(rows),
                                 .n = n,
                                 .k = k,
                                 .y = y,
                                 .y32 = y32,
                                 .write = write,
                                 .scratch = scratch_.full()};
  path == Path::Few ? gpu_.few_rows(p) : gpu_.many_rows(p);
}

void GpuDense::gated(const bf16* w, int64_t rows, Path path) {
  const ModelConfig& c = config_;
  const auto gate =
      c.activation == Activation::GeluTanh ? kernels::cuda::Gate::Gelu : kernels::cuda::Gate::Silu;
  const kernels::cuda::GatedProduct p{.x = h_.half(),
                                      .w = w,
                                      .m = static_cast<int32_t>(rows),
                                      .n = c.ffn,
                                      .k = c.hidden,
                                      .gate = gate,
                                      .y = gated_.half(),
                                      .between = gate_up_.half(),
                                      .scratch = scratch_.full()};
  path == Path::Few ? gpu_.gated_few_rows(p) : gpu_.gated_rows(p);
}

void GpuDense::embed(const int32_t* tokens, int64_t rows, float* x) {
  if (rows == 0) return;
  gpu_.embed(tokens, weights_.embedding(), rows, config_.hidden, config_.embedding_scale, x);
}

// Of at most kPart rows.
void GpuDense::qkv(int layer, const float* x, int64_t rows, bf16* to, Path path) {
  const ModelConfig& c = config_;
  const GpuLayerWeights& w = weights_.layers()[layer];
  gpu_.rms_norm(x, w.attention_norm, c.norm_eps, rows, c.hidden, h_.half());
  product(h_.half(), w.qkv, rows, qkv_row(), c.hidden, to, nullptr, Write::Replace, path);
}

void GpuDense::before_attention(int layer, const float* x, int64_t rows, kernels::cuda::Qkv split,
                                Path path) {
  for (int64_t at = 0; at < rows; at += kPart) {
    const int64_t n = std::min<int64_t>(kPart, rows - at);
    qkv(layer, x + at * config_.hidden, n, qkv_.half(), path);
    place(layer, qkv_.half(), n, split);
    split.place += n;
    split.q_near = GpuBuffer::after(split.q_near, n * q_row());
    if (split.q_far) split.q_far = GpuBuffer::after(split.q_far, n * q_row());
    if (split.q_raw) split.q_raw = GpuBuffer::after(split.q_raw, n * q_row());
    if (split.q_lookup) split.q_lookup = GpuBuffer::after(split.q_lookup, n * q_row());
    if (split.lookup_angle) split.lookup_angle += n;
  }
}

void GpuDense::products(int layer, const float* x, int64_t rows, bf16* to) {
  for (int64_t at = 0; at < rows; at += kPart)
    qkv(layer, x + at * config_.hidden, std::min<int64_t>(kPart, rows - at),
        GpuBuffer::after(to, at * qkv_row()), Path::Many);
}

void GpuDense::place(int layer, const bf16* qkv, int64_t rows, kernels::cuda::Qkv split) {
  const GpuLayerWeights& w = weights_.layers()[layer];
  split.qkv = qkv;
  split.bias = w.qkv_bias;
  split.q_norm = w.q_norm;
  split.k_norm = w.k_norm;
  split.norm_eps = config_.norm_eps;
  split.rows = rows;
  gpu_.split_qkv(split);
}

void GpuDense::after_attention(int layer, const bf16* attention, int64_t rows, float* x,
                               Path path) {
  const ModelConfig& c = config_;
  const GpuLayerWeights& w = weights_.layers()[layer];
  for (int64_t at = 0; at < rows; at += kPart) {
    const int64_t n = std::min<int64_t>(kPart, rows - at);
    float* const part = x + at * c.hidden;
    product(GpuBuffer::after(attention, at * q_row()), w.wo, n, c.hidden, q_row(), nullptr, part,
            Write::Add, path);
    gpu_.rms_norm(part, w.ffn_norm, c.norm_eps, n, c.hidden, h_.half());
    gated(w.gate_up, n, path);
    product(gated_.half(), w.down, n, c.hidden, c.ffn, nullptr, part, Write::Add, path);
  }
}

void GpuDense::logits(const float* x, int64_t rows, float* logits) {
  const ModelConfig& c = config_;
  gpu_.rms_norm(x, weights_.output_norm(), c.norm_eps, rows, c.hidden, h_.half());
  product(h_.half(), weights_.output(), rows, c.vocabulary, c.hidden, nullptr, logits,
          Write::Replace, Path::Few);
}

}  // namespace ringtide::model
