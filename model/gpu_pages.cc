#include "model/gpu_pages.h"

#include <algorithm>

namespace ringtide::model {
namespace {

// A page's sums, in the order in which they lie; then its representatives.
int64_t sum_floats(const GpuLayout& layout) {
  return layout.query_floats() + 2 * layout.logit_floats();
}
int64_t learned_floats(const GpuLayout& layout) {
  return sum_floats(layout) + layout.query_floats();
}

}  // namespace

int64_t GpuPages::pair_bytes(const GpuLayout& layout) {
  return 3 * layout.payload_bytes() +
         2 * learned_floats(layout) * static_cast<int64_t>(sizeof(float));
}

void GpuPages::make_pair() {
  auto pair = std::make_unique<Pair>();
  pair->span = arena_.take(pair_bytes(layout_));
  const int32_t block = layout_.layers * layout_.layer_rows();  // rows of a payload
  auto* sums = reinterpret_cast<float*>(pair->span.data() + 3 * layout_.payload_bytes());
  for (int i = 0; i < 2; ++i) {
    GpuPage& page = pair->pages[i];
    page.raw_row = pair->span.row() + i * block;
    page.v_row = page.raw_row + layout_.plane_rows();
    page.rotated_row = pair->span.row() + 2 * block + i * layout_.plane_rows();
    page.payload = pair->span.data() + i * layout_.payload_bytes();
    page.query_sum = sums + i * learned_floats(layout_);
    page.own_sums = page.query_sum + layout_.query_floats();
    page.leaving_sums = page.own_sums + layout_.logit_floats();
    page.representatives = page.leaving_sums + layout_.logit_floats();
  }
  pairs_.push_back(std::move(pair));
}

void GpuPages::reserve(int64_t pages) {
  const size_t before = pairs_.size();
  try {
    while (this->pages() < wanted_ + pages) make_pair();
  } catch (...) {
    pairs_.resize(before);
    throw;
  }
  wanted_ += pages;
}

void GpuPages::unreserve(int64_t pages) {
  wanted_ -= pages;
  for (size_t i = pairs_.size(); i-- > 0 && this->pages() - 2 >= wanted_;)
    if (!pairs_[i]->taken[0] && !pairs_[i]->taken[1])
      pairs_.erase(pairs_.begin() + static_cast<ptrdiff_t>(i));
}

GpuPage* GpuPages::take() {
  for (auto& pair : pairs_)
    for (int i = 0; i < 2; ++i)
      if (!pair->taken[i]) {
        pair->taken[i] = true;
        GpuPage* page = &pair->pages[i];
        gpu_.fill(page->query_sum, 0,
                  sum_floats(layout_) * static_cast<int64_t>(sizeof(float)));
        return page;
      }
  return nullptr;
}

void GpuPages::give(GpuPage* page) {
  for (auto& pair : pairs_)
    for (int i = 0; i < 2; ++i)
      if (page == &pair->pages[i]) pair->taken[i] = false;
}

}  // namespace ringtide::model
