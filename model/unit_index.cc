#include "model/unit_index.h"

#include <algorithm>

#include "kernels/dot_rows.h"

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

void UnitIndex::scores(int layer, const float* query, std::vector<float>& scores) const {
  scores.resize(shape_.heads * units_);
  const int64_t dim = shape_.head_dim;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t first = static_cast<int64_t>(g) * kGroup;
    const int64_t n = std::min(kGroup, units_ - first);
    for (int h = 0; h < shape_.heads; ++h)
      kernels::dot_rows(groups_[g].get() + (int64_t{layer} * shape_.heads + h) * kGroup * dim, n,
                        dim, query + h * dim, scores.data() + h * units_ + first);
  }
}

}  // namespace ringtide::model
