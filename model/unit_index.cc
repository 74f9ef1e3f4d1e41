#include "model/unit_index.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "kernels/index_scan.h"

namespace ringtide::model {

IndexGroup::IndexGroup(const PageLayout& layout)
    : layout_(layout), bytes_(static_cast<size_t>(bytes(layout))) {}

void IndexGroup::set(int64_t slot, std::span<const std::byte> representatives) {
  const int64_t row = layout_.row() * kernels::kv_bytes(layout_.type);
  for (int l = 0; l < layout_.layers; ++l)
    std::memcpy(bytes_.get() + l * rows_bytes(layout_) + slot * row,
                representatives.data() + l * row, row);
}

void IndexGroup::summarise() {
  const int64_t row = layout_.row(), size = kernels::kv_bytes(layout_.type);
  std::vector<float> units(kUnits * row), mean(row), high(row), low(row);
  std::byte* out = bytes_.get() + layout_.layers * rows_bytes(layout_);
  for (int l = 0; l < layout_.layers; ++l) {
    kernels::from_kv(layout_.type, rows(l).data(), kUnits * row, units.data());
    std::fill(mean.begin(), mean.end(), 0.0f);
    std::copy_n(units.begin(), row, high.begin());
    std::copy_n(units.begin(), row, low.begin());
    for (int64_t u = 0; u < kUnits; ++u)
      for (int64_t j = 0; j < row; ++j) {
        const float x = units[u * row + j];
        mean[j] += x;
        high[j] = std::max(high[j], x);
        low[j] = std::min(low[j], x);
      }
    for (int64_t j = 0; j < row; ++j) {
      mean[j] /= kUnits;
      high[j] = (mean[j] + high[j]) / 2;
      low[j] = (mean[j] + low[j]) / 2;
    }
    kernels::to_kv(layout_.type, high.data(), row, out);
    kernels::to_kv(layout_.type, low.data(), row, out + row * size);
    out += 2 * row * size;
  }
  const uint64_t digest = XXH3_64bits(bytes_.get(), layout_.layers * rows_bytes(layout_));
  std::memcpy(out, &digest, sizeof digest);
}

std::span<const std::byte> IndexGroup::rows(int layer) const {
  return {bytes_.get() + layer * rows_bytes(layout_), static_cast<size_t>(rows_bytes(layout_))};
}

std::span<const std::byte> IndexGroup::summary() const {
  return {bytes_.get() + layout_.layers * rows_bytes(layout_),
          static_cast<size_t>(summary_bytes(layout_))};
}

std::shared_ptr<const IndexGroup> UnitIndex::add(std::span<const std::byte> representatives) {
  if (!open_) open_ = std::make_shared<IndexGroup>(layout_);
  open_->set(open_units_++, representatives);
  if (open_units_ < kGroup) return nullptr;
  open_->summarise();
  open_units_ = 0;
  add_group(open_->summary());
  return std::move(open_);
}

void UnitIndex::add_group(std::span<const std::byte> summary) {
  const int64_t row = layout_.row() * kernels::kv_bytes(layout_.type);
  const int64_t slot = groups_ % kGroup;
  if (slot == 0)
    summaries_.emplace_back(new std::byte[kGroup * IndexGroup::vectors_bytes(layout_)]);
  for (int64_t plane = 0; plane < int64_t{2} * layout_.layers; ++plane)
    std::memcpy(summaries_.back().get() + (plane * kGroup + slot) * row,
                summary.data() + plane * row, row);
  ++groups_;
}

void UnitIndex::group_scores(int layer, const float* query, float* scores, int64_t stride,
                             kernels::ThreadPool& threads) const {
  const kernels::HeadShape& shape = layout_.shape;
  const int64_t plane = IndexGroup::rows_bytes(layout_);
  std::vector<float> above(query, query + layout_.row()), below = above;
  for (float& x : above) x = std::max(x, 0.0f);
  for (float& x : below) x = std::min(x, 0.0f);
  threads.parallel_for(static_cast<int64_t>(summaries_.size()), [&](int64_t chunk, int) {
    const std::byte* high = summaries_[chunk].get() + 2 * layer * plane;
    const int64_t first = chunk * kGroup, n = std::min(kGroup, groups_ - first);
    kernels::dot_heads(layout_.type, high, n, shape.heads, shape.head_dim, above.data(), false,
                       scores + first, stride);
    kernels::dot_heads(layout_.type, high + plane, n, shape.heads, shape.head_dim, below.data(),
                       true, scores + first, stride);
  });
}

const std::byte* UnitIndex::open_rows(int layer) const {
  return open_ ? open_->rows(layer).data() : nullptr;
}

}  // namespace ringtide::model
