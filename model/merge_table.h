// The merges of a byte-pair encoding (Sennrich et al. 2016): which two neighbouring tokens become
// one, and in which order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/types.h"

namespace ringtide::model {

// Immutable once filled; any thread, with a scratch each.
class MergeTable {
 public:
  explicit MergeTable(size_t merges);

  // The next merge: its rank is the number of add() calls before. The first of two equal pairs
  // counts. REQUIRES: no more of them than the constructor was told.
  void add(TokenId left, TokenId right, TokenId merged);

  struct Scratch {
    struct Symbol {
      TokenId token;  // -1: merged into its left neighbour
      int32_t previous, next;
    };
    struct Pair {
      int32_t rank, position;
      TokenId left, right, merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Pair> heap;
  };

  // Merges `tokens` in place until no two neighbours have a merge: always the lowest rank, the
  // leftmost of equals. O(n log n).
  void apply(std::vector<TokenId>& tokens, Scratch& scratch) const;

 private:
  struct Slot {
    uint64_t pair = kFree;
    int32_t rank = 0;
    TokenId merged = -1;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};

  Slot& slot(uint64_t pair);
  const Slot& slot(uint64_t pair) const;
  void offer(Scratch& scratch, int32_t position) const;

  std::vector<Slot> slots_;  // open addressing, at most half full, a power of two
  int shift_ = 0;
  int32_t next_rank_ = 0;
};

}  // namespace ringtide::model
