// The index of one context: a representative vector per sealed unit, layer and query head.
//
// Kept in groups of kGroup units, each contiguous per layer and head, so that a lookup scans memory
// in order. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/attention.h"

namespace ringtide::model {

class UnitIndex {
 public:
  static constexpr int64_t kGroup = 64;  // units

  UnitIndex(int32_t layers, const kernels::HeadShape& shape) : layers_(layers), shape_(shape) {}

  // Adds unit number size(): representatives (layers, heads, head_dim).
  void add(const float* representatives);
  int64_t size() const { return units_; }
  int64_t bytes() const { return static_cast<int64_t>(groups_.size()) * group_floats() * 4; }

  // scores (size()) of one head of `layer`: inner products with query (head_dim).
  void scores(int layer, int head, const float* query, float* scores) const;
  const kernels::HeadShape& shape() const { return shape_; }

 private:
  int64_t group_floats() const {
    return int64_t{layers_} * shape_.heads * kGroup * shape_.head_dim;
  }
  int32_t layers_;
  kernels::HeadShape shape_;
  int64_t units_ = 0;
  std::vector<std::unique_ptr<float[]>> groups_;  // (layers, heads, kGroup, head_dim)
};

}  // namespace ringtide::model
