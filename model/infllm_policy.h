// InfLLM (arXiv 2402.04617): units of fixed length, found again by a few representative keys, and
// attended to at one constant distance.
//
// As published, but:
//  - a unit's relevance may be the sum over heads of a softmax over units (HeadVote::Softmax), so
//  that
//    heads with large logits do not outvote the others;
//  - where there are more full groups of units than `probe`, a lookup chooses groups first: by the
//    same vote over all full groups, of the score of UnitIndex::group_scores(). Units of the
//    `probe` best groups, and of the group that is not full yet, are then compared with each other;
//    the vote is among those. With no more groups than `probe` every unit is compared.
// What is selected follows from the tokens and the configuration alone, not from what is in memory.
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
  // The `select` units of highest relevance among those compared (ties: the earlier); all, if there
  // are no more in the context.
  void select(const Lookup& lookup, std::vector<int64_t>& units) const override;
  Residency reside(int64_t) const override { return Residency::Keep; }
  Placement position() const override;
};

}  // namespace ringtide::model
