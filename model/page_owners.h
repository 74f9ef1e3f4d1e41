// Which shards of a ring hold the keys and values of which page of a context.
//
// Its owner attends with them; of the shards after the owner some keep a copy, so that a ring that
// loses one goes on with what those have.
//
// Blocks are appended as they run, so the owners follow from the history's block lengths alone, and
// a context made again has the ones it had. kernels/ring/placement.h tells how they are balanced.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/ring/placement.h"

namespace ringtide::model {

class PageOwners {
 public:
  // All pages are here.
  PageOwners() = default;
  // copies >= 1: shards that keep a page, the owner among them, where there are so many.
  PageOwners(int shard, int shards, int unit, int copies);

  void append(int64_t tokens);
  // REQUIRES: tokens of the page have been appended.
  bool here(int64_t page) const { return !placement_ || owner_[page] == shard_; }
  // Whether this shard keeps it, as its owner or after it. REQUIRES: the same.
  bool kept(int64_t page) const {
    if (!placement_) return true;
    const int shards = placement_->shards();
    return (shard_ - owner_[page] + shards) % shards < copies_;
  }
  // REQUIRES: made for a ring.
  int of(int64_t page) const { return owner_[page]; }

  int64_t bytes() const;  // that it holds in memory
  // Of `pages` pages in a row, as many as one shard may own at most, where no block is longer than
  // `block_pages` pages: shares of what was appended before and up to here are even to one page,
  // and the block that the row begins in may give this shard its whole share after that.
  static int64_t most(int64_t pages, int64_t block_pages, int shards);

 private:
  int shard_ = 0, copies_ = 1;
  std::optional<kernels::ring::Placement> placement_;  // none: a lone engine's
  std::vector<uint16_t> owner_;
};

}  // namespace ringtide::model
