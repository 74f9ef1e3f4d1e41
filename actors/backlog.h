// How much appended text waits for the model, so that the engine's pace reaches the client.
//
// Pure. Text counts from its append until the blocks it filled have run. Text in a block that is
// not full yet counts no more: it waits for the client, not for the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace ringtide::actors {

class Backlog {
 public:
  // In order, once each: text arrived; the oldest that was not durable is, and its last token is
  // number `tokens` of the log.
  void add(size_t bytes) {
    pieces_.push_back({bytes, -1});
    bytes_ += bytes;
  }
  void durable(int64_t tokens) { pieces_[durable_++].tokens = tokens; }

  // `ran` of the `runnable` tokens have been processed.
  void ran(int64_t ran, int64_t runnable) {
    while (durable_ > 0 && (pieces_.front().tokens <= ran || ran >= runnable)) {
      bytes_ -= pieces_.front().bytes;
      pieces_.pop_front();
      --durable_;
    }
  }
  void clear() { *this = Backlog(); }

  size_t bytes() const { return bytes_; }

 private:
  struct Piece {
    size_t bytes;
    int64_t tokens;  // -1: not durable yet
  };
  std::deque<Piece> pieces_;
  size_t durable_ = 0;  // pieces at the front that are
  size_t bytes_ = 0;
};

}  // namespace ringtide::actors
