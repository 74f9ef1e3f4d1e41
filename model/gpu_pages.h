// Pages of the device: the memory of a unit's worth of consecutive tokens, all layers, while they are
// in the window. A pool of them for each length of unit; contexts take and give.
//
// A page's payload is the unit as it is stored: for each layer keys before RoPE and then values,
// (kv_heads, unit, head_dim) each. Its rotated keys lie apart, interleaved with those of a second
// page, so that all three planes of a layer are one stride from those of the next.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/gpu_arena.h"

namespace ringtide::model {

struct GpuLayout {
  int32_t layers = 0;
  kernels::cuda::Heads shape;
  int32_t unit = 0;  // tokens

  int32_t plane_rows() const { return shape.kv_heads * unit; }
  int32_t layer_rows() const { return 2 * plane_rows(); }  // from a layer to the next
  int64_t plane_bytes() const { return int64_t{plane_rows()} * shape.head_dim * 2; }
  int64_t chunk_bytes() const { return 2 * plane_bytes(); }
  int64_t payload_bytes() const { return layers * chunk_bytes(); }
  int64_t row() const { return int64_t{shape.heads} * shape.head_dim; }
  int64_t query_floats() const { return layers * row(); }  // query sums, or representatives
  int64_t logit_floats() const { return int64_t{layers} * shape.heads * unit; }
  int64_t query_bytes() const { return query_floats() * static_cast<int64_t>(sizeof(float)); }
  int64_t logit_bytes() const { return logit_floats() * static_cast<int64_t>(sizeof(float)); }
};

struct GpuPage {
  // Arena rows of layer 0; layer l: + l * layer_rows().
  int32_t raw_row = 0, rotated_row = 0, v_row = 0;
  std::byte* payload = nullptr;
  // What is learned while it is in the window, of all layers. Final when it is full: sums of the
  // queries that stand in it (layers, heads, head_dim), of their logits by its keys (layers, heads,
  // unit). Of the logits of the queries that stand a window later, as many; and what comes of all
  // that, (layers, heads, head_dim).
  float* query_sum = nullptr;
  float* own_sums = nullptr;
  float* leaving_sums = nullptr;
  float* representatives = nullptr;
};

class GpuPages {
 public:
  GpuPages(kernels::Gpu& gpu, GpuArena& arena, const GpuLayout& layout)
      : gpu_(gpu), arena_(arena), layout_(layout) {}
  GpuPages(const GpuPages&) = delete;

  // Makes so many more pages to be taken. Throws OutOfBudget, having made none.
  void reserve(int64_t pages);
  void unreserve(int64_t pages);

  // With sums of 0; null where all are taken.
  GpuPage* take();
  void give(GpuPage* page);

  static int64_t pair_bytes(const GpuLayout& layout);  // of two pages

 private:
  struct Pair {
    GpuArena::Span span;
    GpuPage pages[2];
    bool taken[2] = {false, false};
  };
  void make_pair();
  int64_t pages() const { return 2 * static_cast<int64_t>(pairs_.size()); }

  kernels::Gpu& gpu_;
  GpuArena& arena_;
  const GpuLayout layout_;
  int64_t wanted_ = 0;
  std::vector<std::unique_ptr<Pair>> pairs_;
};

}  // namespace ringtide::model
