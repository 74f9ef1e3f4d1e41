// A context with a random past: what decoding costs depends on how much is there, not on what it is.
#include <algorithm>

#include "model/gpu_context.h"

namespace ringtide::model {

void GpuContext::imagine(int64_t tokens) {
  constexpr int64_t kBuffers = 64;
  const int32_t block = policy_->config().block;
  const std::vector<TokenId> zeros(block);
  while (processed() + block <= tokens) history_.add(zeros);
  base_ = sealed();

  uint64_t seed = id_ << 32;
  const auto fill = [&](void* memory, int64_t bytes) {
    home_.gpu.fill_normal(static_cast<kernels::cuda::bf16*>(memory), bytes / 2, 1.0f, ++seed);
  };
  const auto make_page = [&](int64_t unit) {
    GpuPage* page = take_page();
    fill(page->payload, layout_.payload_bytes());
    rotate(page, unit);
    return page;
  };
  if (keeps_units()) {
    for (int64_t u = 0; u < base_; ++u) {
      kept_.push_back(home_.arena.take(layout_.payload_bytes()));
      fill(kept_.back().data(), layout_.payload_bytes());
    }
  } else if (base_ > 0) {
    first_ = make_page(0);
  }
  for (int64_t u = base_; u * layout_.unit < processed(); ++u)
    pages_.push_back(make_page(u));
  if (looks_up() && base_ > 0) {
    index_.grow(base_);
    for (int64_t u = 0; u < base_; u += kernels::cuda::kIndexGroup)
      fill(index_.group(u), GpuIndex::group_bytes(layout_));
    for (int64_t i = 0; i < std::min(kBuffers, base_); ++i) {
      imagined_.push_back(home_.host.take(layout_.payload_bytes()));
      home_.gpu.copy(imagined_.back().get(), pages_.front()->payload, layout_.payload_bytes());
    }
    for (int64_t u = 0; u < base_; ++u)
      index_.set_payload(u, imagined_[u % imagined_.size()].get());
  }
  home_.gpu.fill(hidden_.data(), 0, hidden_.bytes());
  for (int64_t n = base_; n < static_cast<int64_t>(history_.page_keys().size()); ++n) store_page(n);
  home_.spill.settle(true);
  home_.gpu.synchronize();
}

}  // namespace ringtide::model
