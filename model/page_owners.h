// Which shard of a ring holds the keys and values of which page of a context.
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
  PageOwners(int shard, int shards, int unit);

  void append(int64_t tokens);
  // REQUIRES: tokens of the page have been appended.
  bool here(int64_t page) const { return !placement_ || owner_[page] == shard_; }
  // REQUIRES: made for a ring.
  int of(int64_t page) const { return owner_[page]; }

  int64_t bytes() const;  // that it holds in memory
  // Of `pages` pages in a row, as many as one shard may hold at most, where no block is longer than
  // `block_pages` pages: shares of what was appended before and up to here are even to one page,
  // and the block that the row begins in may give this shard its whole share after that.
  static int64_t most(int64_t pages, int64_t block_pages, int shards);

 private:
  int shard_ = 0;
  std::optional<kernels::ring::Placement> placement_;  // none: a lone engine's
  std::vector<uint16_t> owner_;
};

}  // namespace ringtide::model
