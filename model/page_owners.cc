#include "model/page_owners.h"

#include <algorithm>

namespace ringtide::model {

PageOwners::PageOwners(int shard, int shards, int unit, int copies)
    : shard_(shard), copies_(copies) {
  placement_.emplace(shards, unit);
}

void PageOwners::append(int64_t tokens) {
  if (!placement_) return;
  placement_->append(tokens);
  const int64_t before = static_cast<int64_t>(owner_.size());
  const int64_t pages = (placement_->tokens() + placement_->unit() - 1) / placement_->unit();
  if (pages == before) return;
  owner_.resize(pages);
  for (int s = 0; s < placement_->shards(); ++s) {
    const auto& blocks = placement_->blocks_of(s);
    for (auto b = blocks.rbegin(); b != blocks.rend() && *b >= before; ++b)
      owner_[*b] = static_cast<uint16_t>(s);
  }
}

int64_t PageOwners::bytes() const {
  return static_cast<int64_t>(owner_.size() * (sizeof(uint16_t) + sizeof(int64_t)));
}

int64_t PageOwners::most(int64_t pages, int64_t block_pages, int shards) {
  if (shards == 1) return pages;
  return std::min(pages, pages / shards + block_pages / shards + 3);
}

}  // namespace ringtide::model
