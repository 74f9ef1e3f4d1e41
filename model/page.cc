#include "model/page.h"

#include <algorithm>
#include <vector>

#include "kernels/elementwise.h"

namespace ringtide::model {
namespace {

int64_t float_count(const PageLayout& l, bool with_kv) {
  return l.rotation_floats() + l.query_sum_floats() + (with_kv ? l.logit_sum_floats() : 0);
}

int64_t floats_offset(const PageLayout& l, bool with_kv) {
  const int64_t kv = with_kv ? l.layers * l.chunk_bytes() : 0;
  return (kv + l.unit_index_bytes() + 63) / 64 * 64;
}

}  // namespace

int64_t PageLayout::page_bytes(bool with_kv) const {
  return floats_offset(*this, with_kv) +
         float_count(*this, with_kv) * static_cast<int64_t>(sizeof(float));
}

Page::Page(const PageLayout& layout, std::span<const double> inv_freq,
           std::span<const double> sliding_inv_freq, int64_t position, bool with_kv)
    : layout_(layout),
      position_(position),
      has_kv_(with_kv),
      bytes_(static_cast<size_t>(layout.page_bytes(with_kv))),
      floats_(reinterpret_cast<float*>(bytes_.get() + floats_offset(layout, with_kv))) {
  std::fill_n(floats_, float_count(layout, with_kv), 0.0f);
  // Layers that slide a window have no representatives: theirs stay 0.
  std::ranges::fill(representatives(), std::byte{0});
  const auto fill = [&](std::span<const double> frequencies, float* at) {
    const auto half = static_cast<int64_t>(frequencies.size());
    std::vector<float> cos(layout.unit * half), sin(cos.size());
    kernels::rope_angles(frequencies, position, layout.unit, cos.data(), sin.data());
    for (int64_t t = 0; t < layout.unit; ++t)
      for (int64_t j = 0; j < half; ++j) {
        const int64_t to = kernels::rotation_at(t, j, half);
        at[to] = cos[t * half + j];
        at[rope_floats() + to] = sin[t * half + j];
      }
  };
  fill(inv_freq, floats_);
  if (layout.sliding_rope) fill(sliding_inv_freq, floats_ + 2 * rope_floats());
}

void Page::rotation(bool sliding, int64_t t, float* cos, float* sin) const {
  const int64_t half = layout_.shape.head_dim / 2;
  for (int64_t j = 0; j < half; ++j) {
    cos[j] = this->cos(sliding)[kernels::rotation_at(t, j, half)];
    sin[j] = this->sin(sliding)[kernels::rotation_at(t, j, half)];
  }
}

std::span<std::byte> Page::representatives() {
  return {bytes_.get() + layout_.layers * chunk_bytes(),
          static_cast<size_t>(layout_.unit_index_bytes())};
}

std::span<float> Page::query_sums() {
  return {floats_ + layout_.rotation_floats(), static_cast<size_t>(layout_.query_sum_floats())};
}

std::span<float> Page::logit_sums() {
  const int64_t floats = has_kv_ ? layout_.logit_sum_floats() : 0;
  return {query_sums().data() + layout_.query_sum_floats(), static_cast<size_t>(floats)};
}

float* Page::query_sum(int layer) { return query_sums().data() + layer * layout_.row(); }

float* Page::logit_sums(int layer) {
  return logit_sums().data() + int64_t{layer} * layout_.shape.heads * layout_.unit;
}

}  // namespace ringtide::model
