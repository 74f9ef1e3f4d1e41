#include "actors/cluster/ring_end.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ringtide::actors::cluster {
namespace {

constexpr size_t kUnderWay = 2;

std::string name(int shard) { return "shard " + std::to_string(shard); }
std::string at(uint64_t number) { return " at step " + std::to_string(number); }

std::vector<Bytes> cut(std::span<const std::byte> bytes) {
  std::vector<Bytes> pieces;
  const char* data = reinterpret_cast<const char*>(bytes.data());
  size_t begin = 0;
  do {
    const size_t end = std::min(begin + RingEnd::kPiece, bytes.size());
    pieces.push_back(std::make_shared<const std::vector<char>>(data + begin, data + end));
    begin = end;
  } while (begin < bytes.size());
  return pieces;
}

}  // namespace

RingEnd::RingEnd(int shard, int shards, std::chrono::milliseconds deadline,
                 std::unique_ptr<Carrier> carrier)
    : shard_(shard), deadline_(deadline), carrier_(std::move(carrier)), inboxes_(shards) {}

// -- the engine's thread ----

void RingEnd::post(const model::ShardStep& step) {
  std::vector<Bytes> pieces;
  if (!step.send.empty()) pieces = cut(step.send);
  {
    Lock lock(mutex_);
    take_turn(lock, step.number);
    if (steps_.size() == kUnderWay) fail(lock, name(shard_) + " posts a third step at once");
    steps_.push_back(step);
    if (pieces.empty()) return;
    await(lock, std::chrono::steady_clock::now() + deadline_,
          name(next()) + " took no message of " + name(shard_) + at(step.number),
          [&] { return not_taken_.size() < kUnderWay; });
    not_taken_.push_back(step.number);
  }
  send(next(), false, step.number, pieces, step.send.size());
}

void RingEnd::wait(uint64_t number) {
  Message message;
  std::span<std::byte> to;
  {
    Lock lock(mutex_);
    check();
    if (steps_.empty() || steps_.front().number != number)
      fail(lock, name(shard_) + " waits for step " + std::to_string(number) + " out of turn");
    to = steps_.front().receive;
    steps_.pop_front();
    if (to.empty()) return;
    const Time until = std::chrono::steady_clock::now() + deadline_;
    message = receive(lock, until, inboxes_[previous()].passed, previous(), number, to.size());
  }
  std::memcpy(to.data(), message.data(), to.size());
  if (previous() == shard_) {
    taken(shard_, number);
  } else {
    carrier_->taken(previous(), number);
  }
}

void RingEnd::gather(uint64_t number, std::span<const std::byte> mine, std::span<std::byte> all) {
  const size_t n = mine.size();
  const std::vector<Bytes> pieces = cut(mine);
  {
    Lock lock(mutex_);
    take_turn(lock, number);
    if (all.size() != n * shards())
      fail(lock, name(shard_) + " has no room for all parts" + at(number));
  }
  for (int step = 1; step < shards(); ++step)
    send((shard_ + step) % shards(), true, number, pieces, n);
  const Time until = std::chrono::steady_clock::now() + deadline_;
  for (int from = 0; from < shards(); ++from) {
    std::byte* to = all.data() + from * n;
    if (from == shard_) {
      if (n > 0) std::memcpy(to, mine.data(), n);
      continue;
    }
    Lock lock(mutex_);
    const Message message = receive(lock, until, inboxes_[from].gathered, from, number, n);
    lock.unlock();
    if (n > 0) std::memcpy(to, message.data(), n);
  }
}

void RingEnd::abort(const std::string& reason) {
  Lock lock(mutex_);
  if (over_) return;
  const std::string why = name(shard_) + ": " + reason;
  over_ = why;
  changed_.notify_all();
  lock.unlock();
  carrier_->over(why);
}

// -- whoever receives ----

void RingEnd::take(int from, const Piece& piece) {
  Lock lock(mutex_);
  if (over_ || from < 0 || from >= shards()) return;
  Inbox& inbox = inboxes_[from];
  Queue& queue = piece.gathered ? inbox.gathered : inbox.passed;
  const size_t n = piece.bytes ? piece.bytes->size() : 0;
  if (piece.offset == 0) {
    queue.push_back(
        {.step = piece.step, .size = piece.size, .received = 0, .whole = {}, .parts = {}});
  }
  const bool follows = !queue.empty() && queue.back().step == piece.step &&
                       queue.back().size == piece.size && queue.back().received == piece.offset &&
                       n <= piece.size - piece.offset;
  if (!follows) {
    over_ =
        name(shard_) + " got a message of " + name(from) + " in the wrong order" + at(piece.step);
    changed_.notify_all();
    lock.unlock();
    return carrier_->over(*over());
  }
  Message& message = queue.back();
  if (n == piece.size) {
    message.whole = piece.bytes ? piece.bytes : std::make_shared<const std::vector<char>>();
  } else {
    message.parts.insert(message.parts.end(), piece.bytes->begin(), piece.bytes->end());
  }
  message.received += n;
  if (message.complete()) changed_.notify_all();
}

void RingEnd::taken(int from, uint64_t step) {
  const std::lock_guard lock(mutex_);
  if (from != next() || not_taken_.empty() || not_taken_.front() != step) return;
  not_taken_.pop_front();
  changed_.notify_all();
}

void RingEnd::end(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!over_) over_ = why;
  changed_.notify_all();
}

std::optional<std::string> RingEnd::over() const {
  const std::lock_guard lock(mutex_);
  return over_;
}

int64_t RingEnd::sent() const {
  const std::lock_guard lock(mutex_);
  return sent_;
}

// -- parts ----

void RingEnd::take_turn(Lock& lock, uint64_t number) {
  check();
  if (number != turn_) {
    fail(lock, name(shard_) + " begins step " + std::to_string(number) + ", not " +
                   std::to_string(turn_));
  }
  ++turn_;
}

void RingEnd::check() const {
  if (over_) throw model::RingError("ring aborted: " + *over_);
}

void RingEnd::fail(Lock& lock, const std::string& why) {
  if (!over_) over_ = why;
  changed_.notify_all();
  lock.unlock();
  carrier_->over(why);
  throw model::RingError(why);
}

template <class Ready>
void RingEnd::await(Lock& lock, Time until, const std::string& missing, Ready ready) {
  const bool came = changed_.wait_until(lock, until, [&] { return over_ || ready(); });
  check();
  if (!came) fail(lock, missing + " within " + std::to_string(deadline_.count()) + " ms");
}

RingEnd::Message RingEnd::receive(Lock& lock, Time until, Queue& queue, int from, uint64_t number,
                                  size_t size) {
  await(lock, until, name(shard_) + " got nothing from " + name(from) + at(number),
        [&] { return !queue.empty() && queue.front().complete(); });
  Message message = std::move(queue.front());
  queue.pop_front();
  if (message.step != number) {
    fail(lock, name(shard_) + " got step " + std::to_string(message.step) + " of " + name(from) +
                   at(number));
  }
  if (message.size != size) {
    fail(lock, name(shard_) + " got " + std::to_string(message.size) + " bytes, not " +
                   std::to_string(size) + ", from " + name(from) + at(number));
  }
  return message;
}

void RingEnd::send(int to, bool gathered, uint64_t number, std::span<const Bytes> pieces,
                   size_t size) {
  uint64_t offset = 0;
  for (const Bytes& bytes : pieces) {
    Piece piece{number, gathered, size, offset, bytes};
    offset += bytes->size();
    if (to == shard_) {
      take(shard_, piece);
    } else {
      carrier_->piece(to, std::move(piece));
    }
  }
  const std::lock_guard lock(mutex_);
  sent_ += static_cast<int64_t>(size);
}

}  // namespace ringtide::actors::cluster
