#include "model/gpu_passes.h"

#include <algorithm>

#include "model/gpu_passes_inl.h"
#include "model/random.h"

namespace ringtide::model {

using kernels::cuda::kFewRows;
using kernels::cuda::Write;

namespace {

kernels::cuda::Heads heads_of(const ModelConfig& c) { return {c.heads, c.kv_heads, c.head_dim}; }

int64_t product_scratch(kernels::Gpu& gpu, const ModelConfig& c) {
  int64_t floats = 0;
  for (const auto& [n, k] :
       {std::pair(qkv_row(c), int64_t{c.hidden}), std::pair(int64_t{c.hidden}, q_row(c)),
        std::pair(2 * int64_t{c.ffn}, int64_t{c.hidden}),
        std::pair(int64_t{c.hidden}, int64_t{c.ffn}),
        std::pair(int64_t{c.vocabulary}, int64_t{c.hidden})})
    floats = std::max(floats, gpu.few_rows_scratch(n, k));
  return floats * 4;
}

}  // namespace

GpuPasses::GpuPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights,
                     GpuHome& home, UnitStore& store, int32_t pass_rows)
    : gpu_(gpu),
      config_(model.config),
      weights_(weights),
      home_(home),
      pass_rows_(pass_rows),
      shape_(heads_of(config_)),
      scale_(config_.attention_scale),
      x_(gpu, int64_t{pass_rows} * config_.hidden * 4),
      step_x_(gpu, int64_t{kFewRows} * config_.hidden * 4),
      h_(gpu, int64_t{pass_rows} * config_.hidden * 2),
      qkv_(gpu, pass_rows * qkv_row(config_) * 2),
      q_near_(gpu, pass_rows * q_row(config_) * 2),
      q_far_(gpu, pass_rows * q_row(config_) * 2),
      q_raw_(gpu, pass_rows * q_row(config_) * 2),
      attention_(gpu, pass_rows * q_row(config_) * 2),
      gate_up_(gpu, int64_t{pass_rows} * config_.ffn * 4),
      gated_(gpu, int64_t{pass_rows} * config_.ffn * 2),
      mean_(gpu, kFewRows * q_row(config_) * 2),
      step_logits_(gpu, int64_t{kFewRows} * config_.vocabulary * 4),
      logits_(gpu, int64_t{config_.vocabulary} * 4),
      product_scratch_(gpu, product_scratch(gpu, config_)),
      attention_scratch_(gpu),
      sample_scratch_(gpu, gpu.sample_scratch(kFewRows, config_.vocabulary) * 4),
      sampled_(gpu, kFewRows * 4),
      block_inputs_(gpu),
      step_inputs_(gpu),
      seal_inputs_(gpu),
      sample_inputs_(gpu),
      lookup_(gpu, home, store),
      sampled_host_(static_cast<int32_t*>(gpu.allocate_host(kFewRows * 4)), {&gpu}),
      sampled_there_(gpu.make_event()) {
  gpu.fill(product_scratch_.full(), 0, product_scratch(gpu, config_));
}

int64_t GpuPasses::bytes(const ModelConfig& c, int32_t pass_rows) {
  const int64_t row = int64_t{c.hidden} * 6 + 2 * qkv_row(c) + 10 * q_row(c) + 6 * int64_t{c.ffn};
  return pass_rows * row + (kFewRows + 1) * int64_t{c.vocabulary} * 4 +
         int64_t{kFewRows} * c.hidden * 4 + GpuAngles::bytes(c.head_dim, pass_rows);
}

void GpuPasses::product(const bf16* x, const bf16* w, int64_t rows, int64_t n, int64_t k, bf16* y,
                        float* y32, Write write, bool few) {
  const kernels::cuda::Product p{.x = x,
                                 .w = w,
                                 .m = static_cast<int32_t>(rows),
                                 .n = n,
                                 .k = k,
                                 .y = y,
                                 .y32 = y32,
                                 .write = write,
                                 .scratch = product_scratch_.full()};
  few ? gpu_.few_rows(p) : gpu_.many_rows(p);
}

kernels::cuda::Qkv GpuPasses::qkv(const GpuContext& any, const GpuLayerWeights& w, int layer,
                                  int64_t rows) {
  kernels::cuda::Qkv a;
  a.shape = shape_;
  a.unit = any.layout().unit;
  a.arena = home_.arena.view();
  a.qkv = qkv_.half();
  a.bias = w.qkv_bias;
  a.q_norm = w.q_norm;
  a.k_norm = w.k_norm;
  a.norm_eps = config_.norm_eps;
  a.cos = home_.angles.cos();
  a.sin = home_.angles.sin();
  a.row_offset = layer * any.layout().layer_rows();
  a.rows = rows;
  a.q_near = q_near_.half();
  a.q_far = any.true_distance() ? nullptr : q_far_.half();
  a.q_raw = any.retrieves() ? q_raw_.half() : nullptr;
  return a;
}

// x += wo * attention; x += down * (activation(gate * norm(x)) . (up * norm(x)))
void GpuPasses::feed_forward(const GpuLayerWeights& w, int64_t rows, float* x, bool few) {
  const ModelConfig& c = config_;
  product(attention_.half(), w.wo, rows, c.hidden, q_row(c), nullptr, x, Write::Add, few);
  gpu_.rms_norm(x, w.ffn_norm, c.norm_eps, rows, c.hidden, h_.half());
  product(h_.half(), w.gate_up, rows, 2 * c.ffn, c.hidden, gate_up_.half(), nullptr, Write::Replace,
          few);
  gpu_.gate_mul(
      gate_up_.half(), rows, c.ffn,
      c.activation == Activation::GeluTanh ? kernels::cuda::Gate::Gelu : kernels::cuda::Gate::Silu,
      gated_.half());
  product(gated_.half(), w.down, rows, c.hidden, c.ffn, nullptr, x, Write::Add, few);
}

// -- results ----

float* GpuPasses::logits(GpuContext& context) {
  const auto row = std::find(step_rows_.begin(), step_rows_.end(), &context);
  const float* hidden = context.hidden();
  if (row != step_rows_.end()) {
    if (step_logits_valid_)
      return step_logits_.full((row - step_rows_.begin()) * int64_t{config_.vocabulary});
    hidden = step_x_.full((row - step_rows_.begin()) * int64_t{config_.hidden});
  }
  gpu_.rms_norm(hidden, weights_.output_norm(), config_.norm_eps, 1, config_.hidden, h_.half());
  product(h_.half(), weights_.output(), 1, config_.vocabulary, config_.hidden, nullptr,
          logits_.full(), Write::Replace, true);
  return logits_.full();
}

void GpuPasses::sample(std::span<GpuContext* const> contexts,
                       std::span<const SamplingParams> params, std::span<TokenId> tokens) {
  using kernels::cuda::SampleRow;
  const auto n = static_cast<int64_t>(contexts.size());
  if (n > kFewRows) {
    sample(contexts.first(kFewRows), params.first(kFewRows), tokens.first(kFewRows));
    return sample(contexts.subspan(kFewRows), params.subspan(kFewRows), tokens.subspan(kFewRows));
  }
  const auto penalises = [](const SamplingParams& p) { return p.repetition_penalty != 1; };
  int64_t recent = 0;
  for (int64_t i = 0; i < n; ++i)
    if (penalises(params[i])) recent += std::max(0, params[i].penalty_window);
  sample_inputs_.begin(n * static_cast<int64_t>(sizeof(SampleRow)) + recent * 4 +
                       2 * GpuInputs::kSlack);
  const auto row_in = sample_inputs_.take<SampleRow>(n);
  const auto recent_in = sample_inputs_.take<int32_t>(recent);
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    const SamplingParams& p = params[i];
    const std::vector<TokenId>& past = contexts[i]->history().all_tokens();
    SampleRow& row = row_in.host[i];
    row = {.temperature = p.temperature,
           .top_k = p.top_k,
           .top_p = p.top_p,
           .min_p = p.min_p,
           .repetition_penalty = p.repetition_penalty,
           .uniform = uniform(p.seed, past.size())};
    if (!penalises(p)) continue;
    const size_t count = std::min(past.size(), static_cast<size_t>(std::max(0, p.penalty_window)));
    std::copy(past.end() - static_cast<ptrdiff_t>(count), past.end(), recent_in.host + at);
    row.recent = recent_in.device + at;
    row.recent_count = static_cast<int32_t>(count);
    at += static_cast<int64_t>(count);
  }
  sample_inputs_.send();

  // Rows that lie together in the last step's logits are sampled together.
  bool penalised = false;
  for (int64_t i = 0, end; i < n; i = end) {
    float* logits = this->logits(*contexts[i]);
    end = i + 1;
    while (end < n && logits != logits_.full() &&
           this->logits(*contexts[end]) == logits + (end - i) * config_.vocabulary)
      ++end;
    gpu_.sample(logits, static_cast<int32_t>(end - i), config_.vocabulary, row_in.device + i,
                sampled_.as<int32_t>(i * 4), sample_scratch_.full());
    for (int64_t j = i; j < end; ++j) penalised |= penalises(params[j]);
  }
  gpu_.copy(sampled_host_.get(), sampled_.as<int32_t>(), n * 4);
  gpu_.record(*sampled_there_);
  prepare(contexts);
  gpu_.synchronize(*sampled_there_);
  std::copy_n(sampled_host_.get(), n, tokens.begin());
  // A penalty changes the logits it reads.
  if (penalised) step_logits_valid_ = false;
}

void GpuPasses::settle() {
  if (to_collect_.empty()) return;
  gpu_.synchronize();
  lookup_.keep_choices();
  collect();
}

void GpuPasses::collect() {
  for (const Choice& choice : to_collect_)
    if (choice.context) lookup_.collect(*choice.context, choice.set, choice.row);
  to_collect_.clear();
}

void GpuPasses::forget(const GpuContext& context) {
  for (GpuContext*& row : step_rows_)
    if (row == &context) row = nullptr;
  for (Choice& choice : to_collect_)
    if (choice.context == &context) choice.context = nullptr;
  prepared_.reset();
}

}  // namespace ringtide::model
