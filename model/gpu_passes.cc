#include "model/gpu_passes.h"

#include <algorithm>
#include <vector>

namespace ringtide::model {

using kernels::cuda::kFewRows;

GpuPasses::GpuPasses(kernels::Gpu& gpu, const Model& model, const GpuWeights& weights,
                     GpuHome& home, UnitStore& store, int32_t pass_rows)
    : gpu_(gpu),
      config_(model.config),
      dense_(gpu, config_, weights, pass_rows),
      blocks_(gpu, config_, dense_, home, store, pass_rows),
      steps_(gpu, config_, weights, dense_, home, store),
      sampler_(gpu, config_.vocabulary),
      logits_(gpu, int64_t{config_.vocabulary} * 4),
      sampled_there_(gpu.make_event()) {}

int64_t GpuPasses::bytes(const ModelConfig& c, int32_t pass_rows, bool ring) {
  return GpuDense::bytes(c, pass_rows) + GpuBlocks::bytes(c, pass_rows, ring) +
         GpuSteps::bytes(c, ring) +
         int64_t{c.vocabulary} * 4 + GpuAngles::bytes(c.head_dim, pass_rows);
}

void GpuPasses::prefill(GpuContext& context, std::span<const TokenId> tokens,
                        std::span<const int32_t> lengths) {
  steps_.leave(context);
  blocks_.prefill(context, tokens, lengths);
}

float* GpuPasses::logits(GpuContext& context) {
  if (float* const there = steps_.logits(context)) return there;
  const float* const hidden = steps_.hidden(context);
  dense_.logits(hidden ? hidden : context.hidden(), 1, logits_.full());
  return logits_.full();
}

void GpuPasses::sample(std::span<GpuContext* const> contexts,
                       std::span<const SamplingParams> params, std::span<TokenId> tokens) {
  const size_t n = contexts.size();
  if (n > kFewRows) {
    sample(contexts.first(kFewRows), params.first(kFewRows), tokens.first(kFewRows));
    return sample(contexts.subspan(kFewRows), params.subspan(kFewRows), tokens.subspan(kFewRows));
  }
  std::vector<const History*> pasts;
  for (const GpuContext* context : contexts) pasts.push_back(&context->history());
  sampler_.begin(pasts, params);
  // Rows that lie together in the last step's logits are sampled together.
  for (size_t i = 0, end; i < n; i = end) {
    float* const first = logits(*contexts[i]);
    for (end = i + 1; end < n && first != logits_.full(); ++end)
      if (steps_.logits(*contexts[end]) != first + (end - i) * config_.vocabulary) break;
    sampler_.sample(first, static_cast<int64_t>(i), static_cast<int64_t>(end - i));
  }
  sampler_.fetch();
  GpuLookup* const lookups[] = {&blocks_.lookup(), &steps_.lookup()};
  for (GpuLookup* lookup : lookups)
    if (lookup->owes()) lookup->fetch();
  gpu_.record(*sampled_there_);
  if (sampler_.penalises()) steps_.logits_changed();
  steps_.expect(contexts, sampler_);
  gpu_.synchronize(*sampled_there_);
  for (GpuLookup* lookup : lookups) lookup->tell();
  std::copy_n(sampler_.tokens(), n, tokens.begin());
}

void GpuPasses::settle() {
  GpuLookup* const lookups[] = {&blocks_.lookup(), &steps_.lookup()};
  if (std::none_of(std::begin(lookups), std::end(lookups), [](auto* l) { return l->owes(); }))
    return;
  for (GpuLookup* lookup : lookups)
    if (lookup->owes()) lookup->fetch();
  gpu_.synchronize();
  for (GpuLookup* lookup : lookups) lookup->tell();
}

void GpuPasses::forget(const GpuContext& context) noexcept {
  steps_.forget(context);
  blocks_.lookup().forget(context);
}

}  // namespace ringtide::model
