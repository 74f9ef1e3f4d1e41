#include "kernels/ring/placement.h"

#include <algorithm>
#include <stdexcept>

namespace ringtide::kernels::ring {

Placement::Placement(int shards, int unit) : unit_(unit) {
  if (shards < 1) throw std::invalid_argument("Placement: a ring has at least one shard");
  if (unit < 1) throw std::invalid_argument("Placement: a block has at least one token");
  blocks_.resize(shards);
}

void Placement::append(int64_t count) {
  if (count < 0) throw std::invalid_argument("Placement: cannot append fewer than no tokens");
  const int64_t shards = this->shards();
  int64_t block = (tokens_ + unit_ - 1) / unit_;
  tokens_ += count;
  const int64_t all = (tokens_ + unit_ - 1) / unit_;
  if (block == all) return;

  // Shards have all / shards blocks afterwards, the first ones that come in question one more.
  const int64_t least = all / shards;
  int64_t extra = all % shards;
  std::vector<int64_t> share(shards);
  for (int64_t s = 0; s < shards; ++s) {
    share[s] = least - static_cast<int64_t>(blocks_[s].size());
    if (share[s] < 0) share[s] = 0, --extra;  // it has its one more already
  }
  for (int64_t s = 0; s < shards && extra > 0; ++s) {
    if (static_cast<int64_t>(blocks_[s].size()) <= least) ++share[s], --extra;
  }
  const auto deal = [&](int64_t shard, int64_t n) {
    for (; n > 0; --n) blocks_[shard].push_back(block++);
  };
  for (int64_t s = 0; s < shards; ++s) deal(s, share[s] / 2);
  for (int64_t s = shards - 1; s >= 0; --s) deal(s, share[s] - share[s] / 2);
}

int64_t Placement::tokens_of(int shard) const {
  const auto& mine = blocks_[shard];
  if (mine.empty()) return 0;
  const int64_t missing = std::max<int64_t>((mine.back() + 1) * unit_ - tokens_, 0);
  return static_cast<int64_t>(mine.size()) * unit_ - missing;
}

std::vector<Tokens> Placement::runs(int shard, Tokens range) const {
  const auto& mine = blocks_[shard];
  range.end = std::min(range.end, tokens_);
  std::vector<Tokens> runs;
  for (auto b = std::lower_bound(mine.begin(), mine.end(), range.begin / unit_); b != mine.end();
       ++b) {
    const Tokens part{std::max(*b * unit_, range.begin), std::min((*b + 1) * unit_, range.end)};
    if (part.size() <= 0) break;
    if (!runs.empty() && runs.back().end == part.begin)
      runs.back().end = part.end;
    else
      runs.push_back(part);
  }
  return runs;
}

}  // namespace ringtide::kernels::ring
