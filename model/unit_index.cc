#include "model/unit_index.h"

#include <algorithm>

#include "kernels/index_scan.h"

namespace ringtide::model {

void UnitIndex::add(const float* representatives) {
  const int64_t slot = units_ % kGroup;
  if (slot == 0) groups_.push_back(std::make_unique<float[]>(group_floats()));
  float* group = groups_.back().get();
  const int64_t dim = shape_.head_dim;
  for (int64_t lh = 0; lh < int64_t{layers_} * shape_.heads; ++lh)
    std::copy_n(representatives + lh * dim, dim, group + (lh * kGroup + slot) * dim);
  ++units_;
}

void UnitIndex::scores(int layer, int head, const float* query, float* scores) const {
  const int64_t dim = shape_.head_dim;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t first = static_cast<int64_t>(g) * kGroup;
    kernels::dot_rows(groups_[g].get() + (int64_t{layer} * shape_.heads + head) * kGroup * dim,
                      std::min(kGroup, units_ - first), dim, query, scores + first);
  }
}

}  // namespace ringtide::model
