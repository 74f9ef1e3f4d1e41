// What the parts of GpuPasses share: sizes of rows, filling of what a pass reads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "model/gpu_inputs.h"
#include "model/model.h"

namespace ringtide::model {

inline int64_t q_row(const ModelConfig& c) { return int64_t{c.heads} * c.head_dim; }
inline int64_t qkv_row(const ModelConfig& c) {
  return (int64_t{c.heads} + 2 * c.kv_heads) * c.head_dim;
}

template <class T>
void put(const GpuInputs::Array<T>& array, const std::vector<T>& values, int64_t at = 0) {
  std::copy(values.begin(), values.end(), array.host + at);
}

}  // namespace ringtide::model
