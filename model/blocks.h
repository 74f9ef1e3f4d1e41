// Execution blocks: which tokens run together.
//
// A block never crosses a multiple of the block length, so appended text falls into the same blocks
// however it was cut. Tokens wait until their block is full; generation runs what waits as a
// shorter block, and each generated token but the last is a block of its own. Live sessions and
// recovery both feed this class the same events and so get the same blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace ringtide::model {

class BlockPlan {
 public:
  explicit BlockPlan(int32_t block) : block_(block) {}

  void append(int64_t tokens) {
    total_ += tokens;
    for (;;) {
      const int64_t room = block_ - planned_ % block_;
      if (total_ - planned_ < room) return;
      plan(room);
    }
  }
  // Generation begins: what waits becomes a block. Followed by one token() a token.
  void begin_generation() { plan(total_ - planned_); }
  // A token was sampled. The one before it becomes a block; it waits itself, for the next one or
  // for the text of the next turn.
  void token() {
    plan(total_ - planned_);
    ++total_;
  }

  // Length of the next block to run; 0: none is planned.
  int32_t next() const { return taken_ < lengths_.size() ? lengths_[taken_] : 0; }
  // The block of next() has run, or has been handed over to be run.
  void taken(int32_t length) {
    processed_ += length;
    ++taken_;
  }

  int64_t processed() const { return processed_; }  // tokens in blocks taken
  int64_t planned() const { return planned_; }      // tokens in blocks, taken or not
  int64_t total() const { return total_; }
  // Every block planned, taken or not, in order.
  const std::vector<int32_t>& lengths() const { return lengths_; }

 private:
  void plan(int64_t length) {
    if (length == 0) return;
    lengths_.push_back(static_cast<int32_t>(length));
    planned_ += length;
  }

  int32_t block_;
  int64_t processed_ = 0, planned_ = 0, total_ = 0;
  size_t taken_ = 0;
  std::vector<int32_t> lengths_;
};

// What a prefill takes: whole blocks of these lengths, from position `begin` on, of so many tokens
// in all; none crosses a multiple of `block`. Throws std::logic_error.
inline void require_whole_blocks(int64_t begin, int64_t block, int64_t tokens,
                                 std::span<const int32_t> lengths) {
  int64_t end = begin;
  for (const int32_t length : lengths) {
    if (length <= 0 || end % block + length > block)
      throw std::logic_error("prefill: tokens must be whole execution blocks");
    end += length;
  }
  if (lengths.empty() || end - begin != tokens)
    throw std::logic_error("prefill: lengths must cover the tokens");
}

}  // namespace ringtide::model
