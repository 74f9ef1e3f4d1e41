// The memory of a unit's worth of consecutive tokens, all layers, while they are in the window.
//
// A page is written token by token. Once it is full its keys and values never change, and the unit
// store may hold on to it while it writes them out; its own queries are summed up then, and so are
// their logits, until queries come that stand a window later. With those it is sealed. Where its
// keys and values lie on another shard of a ring, it holds only what every shard needs: rotations,
// sums of queries, representatives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "model/mapped_block.h"

namespace ringtide::model {

struct PageLayout {
  int32_t layers = 0;
  kernels::HeadShape shape;
  int32_t unit = 0;  // tokens
  kernels::KvType type = kernels::KvType::F32;
  bool representatives = false;  // the policy keeps an index
  bool sliding_rope = false;     // sliding layers rotate otherwise than the others

  int64_t half_bytes() const {  // keys, or values, of one layer
    return int64_t{shape.kv_heads} * unit * shape.head_dim * kernels::kv_bytes(type);
  }
  int64_t chunk_bytes() const { return 2 * half_bytes(); }
  int64_t row() const { return int64_t{shape.heads} * shape.head_dim; }
  // Representatives of one unit, all layers.
  int64_t unit_index_bytes() const {
    return representatives ? layers * row() * kernels::kv_bytes(type) : 0;
  }
  // Sums of a page's queries, and of logits by its keys; all layers, float32.
  int64_t query_sum_floats() const { return representatives ? layers * row() : 0; }
  int64_t logit_sum_floats() const {
    return representatives ? int64_t{layers} * shape.heads * unit : 0;
  }
  // All that a Page allocates, with its keys and values or without.
  int64_t page_bytes(bool with_kv = true) const;
};

class Page {
 public:
  Page(const PageLayout& layout, int64_t position, bool with_kv = true);

  bool has_kv() const { return has_kv_; }
  // (kv_heads, unit, head_dim) of the layout's type, keys before RoPE. REQUIRES: has_kv().
  std::byte* k(int layer) { return bytes_.get() + layer * layout_.chunk_bytes(); }
  std::byte* v(int layer) { return k(layer) + layout_.half_bytes(); }
  // Keys and values of a layer; empty where they are not here.
  std::span<const std::byte> chunk(int layer) const {
    return {bytes_.get() + layer * chunk_bytes(), static_cast<size_t>(chunk_bytes())};
  }
  std::span<std::byte> chunk(int layer) {
    return {bytes_.get() + layer * chunk_bytes(), static_cast<size_t>(chunk_bytes())};
  }
  // (layers, heads, head_dim) of the layout's type; present where the layout keeps representatives,
  // as are the next two.
  std::span<std::byte> representatives();
  // Sum of the rotated queries that stand in this page, of a layer, (heads, head_dim).
  float* query_sum(int layer);
  // Partial sums of logits per key of a layer, (heads, unit). REQUIRES: has_kv().
  float* logit_sums(int layer);
  // Those of all layers; logit sums are empty without keys and values.
  std::span<float> query_sums();
  std::span<float> logit_sums();

  int64_t position() const { return position_; }

 private:
  int64_t chunk_bytes() const { return has_kv_ ? layout_.chunk_bytes() : 0; }
  PageLayout layout_;
  int64_t position_;
  bool has_kv_;
  MappedBlock bytes_;  // keys, values, representatives; then the floats
  float* floats_;
};

}  // namespace ringtide::model
