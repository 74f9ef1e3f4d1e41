#include "model/merge_table.h"

#include <algorithm>
#include <bit>
#include <string>

#include "model/vocabulary.h"

namespace ringtide::model {
namespace {

uint64_t pair_of(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// For std's heap functions, whose top is the greatest.
bool later(const MergeTable::Scratch::Pair& a, const MergeTable::Scratch::Pair& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

MergeTable::MergeTable(size_t merges)
    : slots_(std::bit_ceil(2 * merges + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

const MergeTable::Slot& MergeTable::slot(uint64_t pair) const {
  // Fibonacci hashing: the high bits of a product with 2^64 / golden ratio.
  size_t at = static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> shift_);
  while (slots_[at].pair != pair && slots_[at].pair != kFree) at = (at + 1) & (slots_.size() - 1);
  return slots_[at];
}

MergeTable::Slot& MergeTable::slot(uint64_t pair) {
  return const_cast<Slot&>(static_cast<const MergeTable*>(this)->slot(pair));
}

void MergeTable::add(int32_t rank, TokenId left, TokenId right, TokenId merged) {
  const uint64_t pair = pair_of(left, right);
  Slot& place = slot(pair);
  if (place.pair == kFree) place = {pair, rank, merged};
}

void MergeTable::offer(Scratch& scratch, int32_t position) const {
  const auto& symbols = scratch.symbols;
  const int32_t next = symbols[position].next;
  if (next < 0) return;
  const TokenId left = symbols[position].token, right = symbols[next].token;
  const Slot& found = slot(pair_of(left, right));
  if (found.pair == kFree) return;
  scratch.heap.push_back({found.rank, position, left, right, found.merged});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), later);
}

void MergeTable::apply(std::vector<TokenId>& tokens, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  heap.clear();
  const auto count = static_cast<int32_t>(tokens.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols.push_back({tokens[i], i - 1, i + 1 < count ? i + 1 : -1});
  }
  for (int32_t i = 0; i < count; ++i) offer(scratch, i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Pair pair = heap.back();
    heap.pop_back();
    auto& left = symbols[pair.position];
    // An offer is out of date once either side was merged with something else.
    if (left.token != pair.left || left.next < 0 || symbols[left.next].token != pair.right)
      continue;
    auto& right = symbols[left.next];
    left.token = pair.merged;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbols[left.next].previous = pair.position;
    offer(scratch, pair.position);
    if (left.previous >= 0) offer(scratch, left.previous);
  }
  tokens.clear();
  for (const auto& symbol : symbols) {
    if (symbol.token >= 0) tokens.push_back(symbol.token);
  }
}

Merge find_merge(std::string_view merge, int32_t rank,
                 const std::unordered_map<std::string_view, TokenId>& ids) {
  const auto fail = [&](const std::string& what) {
    throw ModelError("tokenizer.ggml.merges: entry " + shown(rank, merge) + " " + what);
  };
  // A space is never spelled as itself, so the first one past the first letter divides.
  const size_t space = merge.find(' ', 1);
  if (space == std::string_view::npos || space + 1 == merge.size()) fail("is not two tokens");
  const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
  const auto id = [&](std::string_view token) {
    const auto found = ids.find(token);
    if (found == ids.end()) fail("needs \"" + std::string(token) + "\", which is no token");
    return found->second;
  };
  return {id(left), id(right), id(std::string(left).append(right))};
}

}  // namespace ringtide::model
