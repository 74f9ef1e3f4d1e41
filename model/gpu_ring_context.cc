#include "model/gpu_ring_context.h"

#include <algorithm>

namespace ringtide::model {

using kernels::cuda::KvRef;
using kernels::cuda::TokenPlace;

constexpr int32_t kPage = GpuRingMemory::kPage;

GpuRingContext::GpuRingContext(const History& empty, kernels::Gpu& gpu, GpuRingMemory& memory,
                               GpuAngles& angles, int shard, int shards, int32_t hidden)
    : memory_(memory),
      shard_(shard),
      placement_(shards, kPage),
      history_(empty),
      reserved_(shards),
      angles_(angles),
      hidden_(gpu, int64_t{hidden} * 4) {}

GpuRingContext::~GpuRingContext() {
  memory_.give(blocks_);
  for (size_t s = 0; s < reserved_.size(); ++s)
    memory_.unreserve(static_cast<int>(s), reserved_[s]);
}

void GpuRingContext::grow(int64_t tokens) {
  placement_.append(tokens);
  for (int s = 0; s < placement_.shards(); ++s) {
    const int64_t more = static_cast<int64_t>(placement_.blocks_of(s).size()) - reserved_[s];
    memory_.reserve(s, more);
    reserved_[s] += more;
  }
  const int64_t own = reserved_[shard_] - static_cast<int64_t>(blocks_.size());
  if (own > 0) memory_.take(own, blocks_);
}

TokenPlace GpuRingContext::place(int64_t position) const {
  TokenPlace place{.raw_row = -1, .rotated_row = -1, .v_row = -1, .near_angle = 0, .far_angle = 0};
  const auto& pages = placement_.blocks_of(shard_);
  const auto at = std::lower_bound(pages.begin(), pages.end(), position / kPage);
  if (at == pages.end() || *at != position / kPage) return place;
  place.rotated_row =
      memory_.row(blocks_[at - pages.begin()]) + static_cast<int32_t>(position % kPage);
  place.v_row = place.rotated_row + memory_.plane_rows();
  return place;
}

KvRef GpuRingContext::ref(int64_t page, int32_t row, int64_t end) const {
  const int64_t begin = page * kPage;
  return {row, row + memory_.plane_rows(), 0,
          static_cast<int32_t>(std::min<int64_t>(kPage, end - begin)), begin};
}

void GpuRingContext::refs(int64_t end, std::vector<KvRef>& refs) const {
  const auto& pages = placement_.blocks_of(shard_);
  for (size_t i = 0; i < pages.size() && pages[i] * kPage < end; ++i)
    refs.push_back(ref(pages[i], memory_.row(blocks_[i]), end));
}

void GpuRingContext::visiting_refs(int visitor, int32_t row, std::vector<KvRef>& refs) const {
  for (const int64_t page : placement_.blocks_of(visitor)) {
    refs.push_back(ref(page, row, placement_.tokens()));
    row += 2 * memory_.plane_rows();
  }
}

}  // namespace ringtide::model
