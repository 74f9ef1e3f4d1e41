// One shard's end of a ring whose links are messages: model::ShardTransport over whatever carries
// pieces of bytes from shard to shard.
//
// Long messages travel in pieces of kPiece bytes. A link holds at most two messages that its
// receiver has not taken: the third is not sent before that. Messages of one sender arrive in the
// order in which they were sent, or not at all.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "model/shard_transport.h"

namespace ringtide::actors::cluster {

using Bytes = std::shared_ptr<const std::vector<char>>;

struct Piece {
  uint64_t step = 0;
  bool gathered = false;          // of a gather; else of the previous shard, to the next
  uint64_t size = 0, offset = 0;  // bytes of the whole message; where these begin in it
  Bytes bytes;
};

// To the other shards, from any thread; never waits. What cannot be delivered is lost.
class Carrier {
 public:
  virtual ~Carrier() = default;
  virtual void piece(int to, Piece piece) = 0;
  virtual void taken(int to, uint64_t step) = 0;  // a message was taken: room for another
  virtual void over(const std::string& why) = 0;  // to all others
};

class RingEnd final : public model::ShardTransport {
 public:
  static constexpr size_t kPiece = 1 << 20;

  RingEnd(int shard, int shards, std::chrono::milliseconds deadline,
          std::unique_ptr<Carrier> carrier);

  // -- the engine's thread; abort() any ----
  int shard() const override { return shard_; }
  int shards() const override { return static_cast<int>(inboxes_.size()); }
  void post(const model::ShardStep& step) override;
  void wait(uint64_t number) override;
  void gather(uint64_t number, std::span<const std::byte> mine, std::span<std::byte> all) override;
  void abort(const std::string& reason) override;

  // -- whoever receives for it, any thread ----
  void take(int from, const Piece& piece);
  void taken(int from, uint64_t step);
  // The ring is over, and the others know or cannot be told.
  void end(const std::string& why);

  std::optional<std::string> over() const;  // why
  int64_t sent() const;                     // bytes, to each other shard

 private:
  struct Message {
    uint64_t step = 0;
    uint64_t size = 0, received = 0;
    Bytes whole;              // of a single piece
    std::vector<char> parts;  // of several
    bool complete() const { return received == size && (whole || size > 0); }
    const char* data() const { return whole ? whole->data() : parts.data(); }
  };
  using Queue = std::deque<Message>;
  struct Inbox {
    Queue passed, gathered;
  };
  using Lock = std::unique_lock<std::mutex>;
  using Time = std::chrono::steady_clock::time_point;

  int next() const { return (shard_ + 1) % shards(); }
  int previous() const { return (shard_ + shards() - 1) % shards(); }
  void take_turn(Lock& lock, uint64_t number);
  void check() const;
  [[noreturn]] void fail(Lock& lock, const std::string& why);
  template <class Ready>
  void await(Lock& lock, Time until, const std::string& missing, Ready ready);
  Message receive(Lock& lock, Time until, Queue& queue, int from, uint64_t number, size_t size);
  void send(int to, bool gathered, uint64_t number, std::span<const Bytes> pieces, size_t size);

  // Constant after construction.
  const int shard_;
  const std::chrono::milliseconds deadline_;
  const std::unique_ptr<Carrier> carrier_;
  // Guarded by mutex_.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::string> over_;
  std::vector<Inbox> inboxes_;      // by sender; their number never changes
  std::deque<uint64_t> not_taken_;  // steps sent to the next shard
  int64_t sent_ = 0;
  // The engine's thread.
  uint64_t turn_ = 0;
  std::deque<model::ShardStep> steps_;  // under way
};

}  // namespace ringtide::actors::cluster
