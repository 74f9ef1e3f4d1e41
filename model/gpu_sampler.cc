#include "model/gpu_sampler.h"

#include <algorithm>

#include "model/random.h"

namespace ringtide::model {

using kernels::cuda::kFewRows;
using kernels::cuda::SampleRow;

GpuSampler::GpuSampler(kernels::Gpu& gpu, int32_t vocabulary)
    : gpu_(gpu),
      vocabulary_(vocabulary),
      inputs_(gpu),
      scratch_(gpu, gpu.sample_scratch(kFewRows, vocabulary) * 4),
      sampled_(gpu, kFewRows * 4),
      host_(static_cast<int32_t*>(gpu.allocate_host(kFewRows * 4)), {&gpu}) {}

void GpuSampler::begin(std::span<const History* const> pasts,
                       std::span<const SamplingParams> params) {
  const auto n = count_ = static_cast<int64_t>(pasts.size());
  const auto looks_back = [](const SamplingParams& p) {
    return p.repetition_penalty != 1 ? std::max(0, p.penalty_window) : 0;
  };
  int64_t recent = 0;
  for (const SamplingParams& p : params) recent += looks_back(p);
  inputs_.begin(n * static_cast<int64_t>(sizeof(SampleRow)) + recent * 4 + 2 * GpuInputs::kSlack);
  rows_ = inputs_.take<SampleRow>(n);
  const auto recent_in = inputs_.take<int32_t>(recent);
  int64_t at = 0;
  for (int64_t i = 0; i < n; ++i) {
    const SamplingParams& p = params[i];
    const std::vector<TokenId>& past = pasts[i]->all_tokens();
    SampleRow& row = rows_.host[i];
    row = {.temperature = p.temperature,
           .top_k = p.top_k,
           .top_p = p.top_p,
           .min_p = p.min_p,
           .repetition_penalty = p.repetition_penalty,
           .uniform = uniform(p.seed, past.size())};
    const size_t count = std::min(past.size(), static_cast<size_t>(looks_back(p)));
    if (count == 0) continue;
    std::copy(past.end() - static_cast<ptrdiff_t>(count), past.end(), recent_in.host + at);
    row.recent = recent_in.device + at;
    row.recent_count = static_cast<int32_t>(count);
    at += static_cast<int64_t>(count);
  }
  penalises_ = at > 0;
  inputs_.send();
}

void GpuSampler::sample(float* logits, int64_t first, int64_t n) {
  gpu_.sample(logits, static_cast<int32_t>(n), vocabulary_, rows_.device + first,
              sampled_.as<int32_t>(first * 4), scratch_.full());
}

void GpuSampler::fetch() { gpu_.copy(host_.get(), sampled_.as<int32_t>(), count_ * 4); }

}  // namespace ringtide::model
