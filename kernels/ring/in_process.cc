#include "kernels/ring/in_process.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>

namespace ringtide::kernels::ring {
namespace {

using Bytes = std::vector<std::byte>;

struct Message {
  uint64_t number;
  Bytes bytes;
};

constexpr size_t kUnderWay = 2;

std::string name(int shard) { return "shard " + std::to_string(shard); }

}  // namespace

struct InProcessRing::State {
  explicit State(int shards, std::chrono::milliseconds deadline)
      : deadline(deadline),
        links(shards),
        sent(shards, 0),
        waits_for(shards, -1),
        gathered(shards) {}

  const std::chrono::milliseconds deadline;
  std::mutex mutex;
  // All below: guarded by mutex.
  std::condition_variable changed;
  std::optional<std::string> over;         // why
  std::vector<std::deque<Message>> links;  // [s]: from s to the next
  std::vector<int64_t> sent;
  std::vector<int> waits_for;                    // another shard, or -1
  std::vector<std::optional<Message>> gathered;  // of every shard
  int readers = 0;                               // that have not yet taken what was gathered

  void check() const {
    if (over) throw RingError("ring aborted: " + *over);
  }
  [[noreturn]] void fail(const std::string& reason) {
    if (!over) over = reason;
    changed.notify_all();
    throw RingError(reason);
  }
  // `shard` waits for `other`; missing() says what did not come.
  template <class Missing, class Ready>
  void await(std::unique_lock<std::mutex>& lock, int shard, int other, Missing missing,
             Ready ready) {
    waits_for[shard] = other;
    const bool came = changed.wait_for(lock, deadline, [&] { return over || ready(); });
    check();
    if (!came) {
      fail(missing() + " within " + std::to_string(deadline.count()) + " ms; " +
           name(first_silent(shard)) + " is silent");
    }
    waits_for[shard] = -1;
  }
  // Whom all wait for that `shard` waits for, directly or not. It waits for nobody itself, unless
  // everybody does.
  int first_silent(int shard) const {
    for (size_t i = 0; i < waits_for.size() && waits_for[shard] >= 0; ++i) shard = waits_for[shard];
    return shard;
  }
};

class InProcessRing::End : public Transport {
 public:
  End(State& state, int shard) : state_(state), shard_(shard) {}

  int shard() const override { return shard_; }
  int shards() const override { return static_cast<int>(state_.links.size()); }

  void post(const Step& step) override {
    Message message{step.number, Bytes(step.send.begin(), step.send.end())};
    std::unique_lock lock(state_.mutex);
    take_turn(step.number);
    if (steps_.size() == kUnderWay) state_.fail(name(shard_) + " posts a third step at once");
    steps_.push_back(step);
    if (message.bytes.empty()) return;
    auto& link = state_.links[shard_];
    state_.await(
        lock, shard_, next(),
        [&] { return name(next()) + " took no message of " + name(shard_) + at(step.number); },
        [&] { return link.size() < kUnderWay; });
    state_.sent[shard_] += static_cast<int64_t>(message.bytes.size());
    link.push_back(std::move(message));
    state_.changed.notify_all();
  }

  void wait(uint64_t number) override {
    Bytes bytes;
    std::span<std::byte> to;
    {
      std::unique_lock lock(state_.mutex);
      state_.check();
      if (steps_.empty() || steps_.front().number != number)
        state_.fail(name(shard_) + " waits for step " + std::to_string(number) + " out of turn");
      to = steps_.front().receive;
      steps_.pop_front();
      if (to.empty()) return;
      auto& link = state_.links[previous()];
      state_.await(
          lock, shard_, previous(),
          [&] { return name(shard_) + " got nothing from " + name(previous()) + at(number); },
          [&] { return !link.empty(); });
      if (link.front().number != number) {
        state_.fail(name(shard_) + " got step " + std::to_string(link.front().number) + " of " +
                    name(previous()) + at(number));
      }
      bytes = std::move(link.front().bytes);
      link.pop_front();
      if (bytes.size() != to.size()) {
        state_.fail(name(shard_) + " got " + std::to_string(bytes.size()) + " bytes, not " +
                    std::to_string(to.size()) + ", from " + name(previous()) + at(number));
      }
      state_.changed.notify_all();
    }
    std::memcpy(to.data(), bytes.data(), bytes.size());
  }

  void gather(uint64_t number, std::span<const std::byte> mine, std::span<std::byte> all) override {
    std::unique_lock lock(state_.mutex);
    take_turn(number);
    const size_t n = mine.size();
    if (all.size() != n * shards())
      state_.fail(name(shard_) + " has no room for all parts" + at(number));
    // What was gathered last is taken by everybody before the next begins.
    state_.await(
        lock, shard_, next(),
        [&] { return "a shard did not take what was gathered before" + at(number); },
        [&] { return !state_.gathered[shard_] && state_.readers == 0; });
    state_.gathered[shard_] = Message{number, Bytes(mine.begin(), mine.end())};
    if (everybody_gave()) state_.readers = shards();
    state_.changed.notify_all();
    state_.await(
        lock, shard_, silent(),
        [&] { return name(shard_) + " got nothing from " + name(silent()) + at(number); },
        [&] { return state_.readers > 0; });
    for (int s = 0; s < shards(); ++s) {
      const Message& part = *state_.gathered[s];
      if (part.number != number || part.bytes.size() != n)
        state_.fail(name(shard_) + " and " + name(s) + " gather different things" + at(number));
      if (n > 0) std::memcpy(all.data() + s * n, part.bytes.data(), n);
    }
    if (--state_.readers == 0) {
      for (auto& part : state_.gathered) part.reset();
    }
    state_.changed.notify_all();
  }

  void abort(const std::string& reason) override {
    const std::lock_guard lock(state_.mutex);
    if (!state_.over) state_.over = name(shard_) + ": " + reason;
    state_.changed.notify_all();
  }

 private:
  int next() const { return (shard_ + 1) % shards(); }
  int previous() const { return (shard_ + shards() - 1) % shards(); }
  static std::string at(uint64_t number) { return " at step " + std::to_string(number); }

  void take_turn(uint64_t number) {
    state_.check();
    if (number != turn_) {
      state_.fail(name(shard_) + " begins step " + std::to_string(number) + ", not " +
                  std::to_string(turn_));
    }
    ++turn_;
  }
  bool everybody_gave() const {
    for (const auto& part : state_.gathered) {
      if (!part) return false;
    }
    return true;
  }
  int silent() const {
    for (int s = 0; s < shards(); ++s) {
      if (!state_.gathered[s]) return s;
    }
    return -1;
  }

  State& state_;
  const int shard_;
  // This shard's thread only.
  uint64_t turn_ = 0;
  std::deque<Step> steps_;  // under way
};

InProcessRing::InProcessRing(int shards, std::chrono::milliseconds deadline)
    : state_(std::make_unique<State>(shards, deadline)) {
  for (int s = 0; s < shards; ++s) ends_.push_back(std::make_unique<End>(*state_, s));
}
InProcessRing::~InProcessRing() = default;

Transport& InProcessRing::at(int shard) { return *ends_.at(shard); }

int64_t InProcessRing::sent(int shard) const {
  const std::lock_guard lock(state_->mutex);
  return state_->sent.at(shard);
}

}  // namespace ringtide::kernels::ring
