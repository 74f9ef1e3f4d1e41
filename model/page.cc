#include "model/page.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "kernels/elementwise.h"

namespace ringtide::model {
namespace {

int64_t float_count(const PageLayout& l) {
  int64_t n = l.rotation_floats();
  if (l.representatives) {
    n += l.layers * l.row();                          // query sums
    n += int64_t{l.layers} * l.shape.heads * l.unit;  // logit sums
  }
  return n;
}

}  // namespace

int64_t PageLayout::page_bytes() const {
  return layers * chunk_bytes() + unit_index_bytes() +
         float_count(*this) * static_cast<int64_t>(sizeof(float));
}

void Page::Free::operator()(void* p) const { std::free(p); }

Page::Page(const PageLayout& layout, std::span<const double> inv_freq,
           std::span<const double> sliding_inv_freq, int64_t position)
    : layout_(layout), position_(position), floats_(new float[float_count(layout)]()) {
  const size_t bytes =
      (layout.layers * layout.chunk_bytes() + layout.unit_index_bytes() + 63) / 64 * 64;
  bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
  if (!bytes_) throw std::bad_alloc();
  // Layers that slide a window have no representatives: theirs stay 0.
  std::ranges::fill(representatives(), std::byte{0});
  const auto fill = [&](std::span<const double> frequencies, float* at) {
    kernels::rope_angles(frequencies, position, layout.unit, at, at + rope_floats());
  };
  fill(inv_freq, floats_.get());
  if (layout.sliding_rope) fill(sliding_inv_freq, floats_.get() + 2 * rope_floats());
}

std::span<std::byte> Page::representatives() {
  return {k(layout_.layers), static_cast<size_t>(layout_.unit_index_bytes())};
}

float* Page::query_sum(int layer) {
  return floats_.get() + layout_.rotation_floats() + layer * layout_.row();
}

float* Page::logit_sums(int layer) {
  return query_sum(layout_.layers) + int64_t{layer} * layout_.shape.heads * layout_.unit;
}

}  // namespace ringtide::model
