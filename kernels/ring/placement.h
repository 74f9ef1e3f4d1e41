// Which shard of a ring holds which tokens of a sequence.
//
// A sequence is cut into blocks of `unit` tokens at absolute positions. Every append deals its new
// blocks zig-zag: each shard gets a run of early blocks, in the order of the shards, and a run of
// late ones, in the reverse order, so that all have equally much to attend to under a causal mask.
// The last block stays open: the next append fills it where it lies. What is placed never moves.
//
// Balance, after any appends: shards differ by at most one block, so by less than 2 * unit tokens;
// and of the (query, key) pairs of one append to an empty sequence of T tokens by at most
// 3 * unit * (T + unit).
#pragma once

#include <cstdint>
#include <vector>

namespace ringtide::kernels::ring {

struct Tokens {
  int64_t begin = 0, end = 0;  // positions in the sequence
  int64_t size() const { return end - begin; }
  friend bool operator==(const Tokens&, const Tokens&) = default;
};

class Placement {
 public:
  // Throws std::invalid_argument for shards < 1 or unit < 1.
  Placement(int shards, int unit);

  // Places `count` >= 0 more tokens. The result depends on the appends before, in their order.
  void append(int64_t count);

  int shards() const { return static_cast<int>(blocks_.size()); }
  int unit() const { return unit_; }
  int64_t tokens() const { return tokens_; }
  int64_t tokens_of(int shard) const;
  // The blocks of a shard, ascending; block b holds positions [b * unit, (b + 1) * unit). A shard
  // keeps its blocks in this order.
  const std::vector<int64_t>& blocks_of(int shard) const { return blocks_[shard]; }
  // The tokens of a shard within `range`, ascending, as few runs as there are.
  std::vector<Tokens> runs(int shard, Tokens range) const;

 private:
  int unit_;
  int64_t tokens_ = 0;
  std::vector<std::vector<int64_t>> blocks_;
};

}  // namespace ringtide::kernels::ring
