#include "model/page.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "kernels/elementwise.h"

namespace ringtide::model {
namespace {

int64_t float_count(const PageLayout& l, bool with_kv) {
  int64_t n = l.rotation_floats();
  if (l.representatives) {
    n += l.layers * l.row();                                       // query sums
    if (with_kv) n += int64_t{l.layers} * l.shape.heads * l.unit;  // logit sums
  }
  return n;
}

}  // namespace

int64_t PageLayout::page_bytes(bool with_kv) const {
  return (with_kv ? layers * chunk_bytes() : 0) + unit_index_bytes() +
         float_count(*this, with_kv) * static_cast<int64_t>(sizeof(float));
}

void Page::Free::operator()(void* p) const { std::free(p); }

Page::Page(const PageLayout& layout, std::span<const double> inv_freq,
           std::span<const double> sliding_inv_freq, int64_t position, bool with_kv)
    : layout_(layout),
      position_(position),
      has_kv_(with_kv),
      floats_(new float[float_count(layout, with_kv)]()) {
  const size_t bytes =
      (layout.layers * chunk_bytes() + layout.unit_index_bytes() + 63) / 64 * 64;  // may be 0
  bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(64, std::max<size_t>(bytes, 64))));
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
  return {bytes_.get() + layout_.layers * chunk_bytes(),
          static_cast<size_t>(layout_.unit_index_bytes())};
}

float* Page::query_sum(int layer) {
  return floats_.get() + layout_.rotation_floats() + layer * layout_.row();
}

float* Page::logit_sums(int layer) {
  return query_sum(layout_.layers) + int64_t{layer} * layout_.shape.heads * layout_.unit;
}

}  // namespace ringtide::model
