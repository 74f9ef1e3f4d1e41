// InfLLM (arXiv 2402.04617): units of fixed length, found again by a few representative keys, and
// attended to at one constant distance.
//
// As published, but: representatives and scores are float32; a unit's relevance may be the sum over
// heads of a softmax over units (HeadVote::Softmax), so that heads with large logits do not outvote
// the others.
#pragma once

#include "model/policy.h"

namespace ringtide::model {

class InfLlmPolicy : public MemoryPolicy {
 public:
  using MemoryPolicy::MemoryPolicy;

  bool represents() const override { return true; }
  // For each query head, the mean of the keys with the highest scores (ties: the earlier).
  void represent(const kernels::HeadShape& shape, const float* keys, const float* scores,
                 int32_t begin, float* out) const override;
  // The `select` units of highest relevance (ties: the earlier).
  void select(const Lookup& lookup, std::vector<int64_t>& units) const override;
  Residency reside(int64_t) const override { return Residency::Keep; }
  Placement position() const override;
};

}  // namespace ringtide::model
