// Execution blocks: which tokens run together.
//
// A block never crosses a multiple of the block length, so appended text falls into the same blocks
// however it was cut. Tokens wait until their block is full; generation runs what waits as a shorter
// block, and each generated token but the last is a block of its own. Live sessions and recovery
// both feed this class the same events and so get the same blocks.
#pragma once

#include <cstdint>
#include <vector>

namespace ringtide::model {

class BlockPlan {
 public:
  explicit BlockPlan(int32_t block) : block_(block) {}

  void append(int64_t tokens) { total_ += tokens; }
  // Generation begins: what waits becomes due, whole blocks first. Followed by one token() a token.
  void begin_generation() { due_ = total_; }
  // A token was sampled. It becomes due when another one follows it, not before.
  void token() {
    due_ = total_;
    ++total_;
  }

  // Length of the next block that may run now; 0: none. taken() moves on past it.
  int32_t next() const {
    const int64_t room = block_ - processed_ % block_;
    if (total_ - processed_ >= room) return static_cast<int32_t>(room);
    return due_ > processed_ ? static_cast<int32_t>(due_ - processed_) : 0;
  }
  void taken(int32_t length) {
    processed_ += length;
    lengths_.push_back(length);
  }

  int64_t processed() const { return processed_; }
  int64_t total() const { return total_; }
  const std::vector<int32_t>& lengths() const { return lengths_; }

 private:
  int32_t block_;
  int64_t processed_ = 0;  // tokens in blocks taken
  int64_t due_ = 0;        // tokens before it run even if their block is short
  int64_t total_ = 0;
  std::vector<int32_t> lengths_;
};

}  // namespace ringtide::model
