#include "model/page.h"

#include <algorithm>

namespace ringtide::model {
namespace {

int64_t float_count(const PageLayout& l, bool with_kv) {
  return l.query_sum_floats() + (with_kv ? l.logit_sum_floats() : 0);
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

Page::Page(const PageLayout& layout, int64_t position, bool with_kv)
    : layout_(layout),
      position_(position),
      has_kv_(with_kv),
      bytes_(static_cast<size_t>(layout.page_bytes(with_kv))),
      floats_(reinterpret_cast<float*>(bytes_.get() + floats_offset(layout, with_kv))) {
  std::fill_n(floats_, float_count(layout, with_kv), 0.0f);
  // Layers that slide a window have no representatives: theirs stay 0.
  std::ranges::fill(representatives(), std::byte{0});
}

std::span<std::byte> Page::representatives() {
  return {bytes_.get() + layout_.layers * chunk_bytes(),
          static_cast<size_t>(layout_.unit_index_bytes())};
}

std::span<float> Page::query_sums() {
  return {floats_, static_cast<size_t>(layout_.query_sum_floats())};
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
