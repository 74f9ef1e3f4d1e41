// The merges of a byte-pair encoding (Sennrich et al. 2016): which two neighbouring tokens become
// one, and in which order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/types.h"

namespace ringtide::model {

// Immutable once filled; any thread, with a scratch each.
class MergeTable {
 public:
  explicit MergeTable(size_t merges);

  // The first of two equal pairs counts. REQUIRES: no more calls than the constructor was told.
  void add(int32_t rank, TokenId left, TokenId right, TokenId merged);

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
};

struct Merge {
  TokenId left, right, merged;
};

// The tokens of a merge written as "left right". Throws ModelError that names entry `rank` of
// tokenizer.ggml.merges: it is not two tokens, or one of the three is not in `ids`.
Merge find_merge(std::string_view merge, int32_t rank,
                 const std::unordered_map<std::string_view, TokenId>& ids);

}  // namespace ringtide::model
