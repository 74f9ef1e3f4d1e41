// The index of one context: representatives of every sealed unit, a vector per layer and query
// head.
//
// Two levels, so that memory and lookups stay small however long the context is. Units are kept in
// groups of kGroup. The open group, which the latest units fill, is in memory whole; of a full
// group only its summary is: per layer, head and dimension, the places halfway from the mean of its
// representatives to their largest and to their smallest. The representatives of full groups are
// values of their own in the unit store (group_reader.h). A lookup scores all summaries, and then
// the units of the best groups.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "model/mapped_block.h"
#include "model/page.h"

namespace ringtide::model {

// The representatives of kGroup consecutive units, and their summary, as they are stored.
class IndexGroup {
 public:
  static constexpr int64_t kUnits = 64;

  explicit IndexGroup(const PageLayout& layout);

  // Row of a unit: representatives (layers, heads, head_dim) of the layout's KV type.
  void set(int64_t slot, std::span<const std::byte> representatives);
  // To be called when all slots are set.
  void summarise();

  // (kUnits, heads, head_dim) of one layer.
  std::span<const std::byte> rows(int layer) const;
  // (layers, 2, heads, head_dim): of each layer (mean + largest) / 2, then (mean + smallest) / 2.
  // Then a digest of all rows: equal summaries are of equal rows. REQUIRES: summarise().
  std::span<const std::byte> summary() const;

  static int64_t rows_bytes(const PageLayout& layout) {  // of one layer
    return kUnits * layout.row() * kernels::kv_bytes(layout.type);
  }
  static int64_t summary_bytes(const PageLayout& layout) {
    return vectors_bytes(layout) + static_cast<int64_t>(sizeof(uint64_t));
  }
  // Of the summary, what lookups read.
  static int64_t vectors_bytes(const PageLayout& layout) { return 2 * layout.unit_index_bytes(); }
  static int64_t bytes(const PageLayout& layout) {
    return layout.layers * rows_bytes(layout) + summary_bytes(layout);
  }

 private:
  PageLayout layout_;
  MappedBlock bytes_;
};

class UnitIndex {
 public:
  static constexpr int64_t kGroup = IndexGroup::kUnits;

  explicit UnitIndex(const PageLayout& layout) : layout_(layout) {}

  // Adds unit number units(): its representatives. Returns the group that is full by it, to be
  // stored, else null.
  std::shared_ptr<const IndexGroup> add(std::span<const std::byte> representatives);
  // Adds full group number groups() by its summary. REQUIRES: no unit is in the open group.
  void add_group(std::span<const std::byte> summary);

  int64_t units() const { return groups_ * kGroup + open_units_; }
  int64_t groups() const { return groups_; }  // full ones
  const PageLayout& layout() const { return layout_; }

  // scores[h * stride + g] of head h of `layer` for every full group g: the middle between the mean
  // of its units' inner products with query (heads, head_dim), and what they cannot exceed: the sum
  // over dimensions of the largest product. The mean alone hides a single unit, the bound is far
  // too high where units differ; of the two and what lies between, the middle finds most.
  void group_scores(int layer, const float* query, float* scores, int64_t stride,
                    kernels::ThreadPool& threads) const;
  // Representatives of the open group's units, (units() - groups() * kGroup, heads, head_dim).
  const std::byte* open_rows(int layer) const;

  int64_t open_bytes() const { return open_ ? IndexGroup::bytes(layout_) : 0; }
  // Bytes that grow with the context, and what they are for so many units.
  int64_t bytes() const { return bytes_for(layout_, groups_ * kGroup); }
  static int64_t bytes_for(const PageLayout& layout, int64_t units) {
    const int64_t chunks = (units / kGroup + kGroup - 1) / kGroup;
    return chunks * kGroup * IndexGroup::vectors_bytes(layout);
  }

 private:
  PageLayout layout_;
  int64_t groups_ = 0, open_units_ = 0;
  std::shared_ptr<IndexGroup> open_;
  // kGroup summaries each: (layers, 2, kGroup, heads, head_dim).
  std::vector<std::unique_ptr<std::byte[]>> summaries_;
};

}  // namespace ringtide::model
