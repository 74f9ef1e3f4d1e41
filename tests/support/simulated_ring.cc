#include "tests/support/simulated_ring.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <string>

namespace ringtide::testing {
namespace {

using Time = int64_t;  // microseconds
constexpr Time kDeadline = 1'000'000;
constexpr Time kNever = std::numeric_limits<Time>::max();

struct Message {
  uint64_t number;
  std::vector<std::byte> bytes;
  Time arrives;
};
using Link = std::deque<Message>;  // in the order of sending, which is that of arriving

struct Shard {
  enum class Where { Outside, Waiting, Running, Dead } where = Where::Outside;
  // While it waits: what for, and until when.
  std::function<bool()> ready;
  Time until = 0;
  std::condition_variable turn;
  int64_t calls = 0;
  bool cut = false;
};

}  // namespace

struct SimulatedRing::State {
  State(int n, uint64_t seed, const RingFault& fault)
      : fault(fault), random(seed), shards(n), steps(n), gathered(n) {
    for (auto& from : gathered) from.resize(n);
  }

  const RingFault fault;
  mutable std::mutex mutex;
  // All below: guarded by mutex.
  std::mt19937_64 random;
  std::deque<Shard> shards;
  std::vector<Link> steps;                  // [s]: from s to the next
  std::vector<std::vector<Link>> gathered;  // [from][to]
  Time now = 0;
  std::optional<std::string> over;
  bool struck = false;
  size_t inside = 0;

  size_t living() const {
    return std::ranges::count_if(shards,
                                 [](const Shard& s) { return s.where != Shard::Where::Dead; });
  }

  // Gives the turn to one of those that can go on, once time has passed as far as it must.
  void pass_turn() {
    for (;;) {
      std::vector<Shard*> able;
      for (Shard& s : shards)
        if (s.where == Shard::Where::Waiting && (s.until <= now || s.ready())) able.push_back(&s);
      if (!able.empty()) {
        Shard& next = *able[random() % able.size()];
        next.where = Shard::Where::Running;
        next.turn.notify_one();
        return;
      }
      Time next = kNever;
      for (const Shard& s : shards)
        if (s.where == Shard::Where::Waiting) next = std::min(next, s.until);
      const auto arrival = [&](const Link& link) {
        if (!link.empty() && link.front().arrives > now)
          next = std::min(next, link.front().arrives);
      };
      std::ranges::for_each(steps, arrival);
      for (const auto& from : gathered) std::ranges::for_each(from, arrival);
      if (next == kNever) return;  // nobody waits: all have left or are dead
      now = next;
    }
  }

  // The shard stands aside until `ready`, at the latest at `until`.
  void wait(std::unique_lock<std::mutex>& lock, int shard, Time until,
            std::function<bool()> ready) {
    Shard& me = shards[shard];
    me.ready = std::move(ready);
    me.until = until;
    me.where = Shard::Where::Waiting;
    pass_turn();
    me.turn.wait(lock, [&] { return me.where == Shard::Where::Running; });
  }

  void check() const {
    if (over) throw model::RingError("ring aborted: " + *over);
  }
  [[noreturn]] void fail(const std::string& why) {
    if (!over) over = why;
    throw model::RingError(why);
  }

  // What a call of a shard begins with: the fault, and others' turns.
  void call(std::unique_lock<std::mutex>& lock, int shard) {
    if (shards[shard].where == Shard::Where::Dead) throw Killed();
    const bool strikes = shard == fault.shard && shards[shard].calls++ == fault.call;
    if (strikes && fault.kind != RingFault::Kind::None) {
      struck = true;
      switch (fault.kind) {
        case RingFault::Kind::Kill:
          shards[shard].where = Shard::Where::Dead;
          throw Killed();
        case RingFault::Kind::Hang:
          wait(lock, shard, now + 10 * kDeadline, [] { return false; });
          break;
        case RingFault::Kind::Cut:
          shards[shard].cut = true;
          break;
        default:
          if (!over) over = "somebody wanted it";
      }
    }
    wait(lock, shard, kNever, [] { return true; });
    check();
  }

  void send(int from, Link& link, uint64_t number, std::span<const std::byte> bytes) {
    if (shards[from].cut) return;
    // Mostly soon, now and then late.
    const Time delay = static_cast<Time>(random() % (random() % 16 == 0 ? kDeadline / 4 : 500));
    const Time after = link.empty() ? now : std::max(now, link.back().arrives);
    link.push_back({number, {bytes.begin(), bytes.end()}, after + delay});
  }
  bool came(const Link& link) const { return !link.empty() && link.front().arrives <= now; }
  Message take(std::unique_lock<std::mutex>& lock, int shard, Link& link, uint64_t number,
               size_t bytes) {
    wait(lock, shard, now + kDeadline, [&] { return over || came(link); });
    check();
    const std::string at = "shard " + std::to_string(shard) + " at step " + std::to_string(number);
    if (!came(link)) fail(at + " got nothing in time");
    Message message = std::move(link.front());
    link.pop_front();
    if (message.number != number || message.bytes.size() != bytes)
      fail(at + " got step " + std::to_string(message.number) + ", " +
           std::to_string(message.bytes.size()) + " bytes, not " + std::to_string(bytes));
    return message;
  }
};

class SimulatedRing::End : public model::ShardTransport {
 public:
  End(State& state, int shard) : state_(state), shard_(shard) {}
  int shard() const override { return shard_; }
  int shards() const override { return static_cast<int>(state_.shards.size()); }

  void post(const model::ShardStep& step) override {
    std::unique_lock lock(state_.mutex);
    state_.call(lock, shard_);
    take_number(step.number);
    if (posted_.size() == 2) state_.fail("a third step at once");
    posted_.push_back(step);
    if (!step.send.empty()) state_.send(shard_, state_.steps[shard_], step.number, step.send);
  }
  void wait(uint64_t number) override {
    std::unique_lock lock(state_.mutex);
    state_.call(lock, shard_);
    if (posted_.empty() || posted_.front().number != number) state_.fail("waits out of turn");
    const model::ShardStep step = posted_.front();
    posted_.pop_front();
    if (step.receive.empty()) return;
    const Message message =
        state_.take(lock, shard_, state_.steps[(shard_ + shards() - 1) % shards()], number,
                    step.receive.size());
    std::memcpy(step.receive.data(), message.bytes.data(), message.bytes.size());
  }
  void gather(uint64_t number, std::span<const std::byte> mine, std::span<std::byte> all) override {
    std::unique_lock lock(state_.mutex);
    state_.call(lock, shard_);
    take_number(number);
    if (all.size() != mine.size() * shards()) state_.fail("no room for what is gathered");
    for (int to = 0; to < shards(); ++to)
      if (to != shard_) state_.send(shard_, state_.gathered[shard_][to], number, mine);
    for (int from = 0; from < shards(); ++from) {
      const auto to = all.subspan(from * mine.size(), mine.size());
      if (from == shard_) {
        std::ranges::copy(mine, to.begin());
        continue;
      }
      const Message message =
          state_.take(lock, shard_, state_.gathered[from][shard_], number, mine.size());
      std::ranges::copy(message.bytes, to.begin());
    }
  }
  void abort(const std::string& reason) override {
    const std::lock_guard lock(state_.mutex);
    if (state_.shards[shard_].where == Shard::Where::Dead) return;
    if (!state_.over) state_.over = reason;
  }

 private:
  void take_number(uint64_t number) {
    if (number != next_++) state_.fail("begins step " + std::to_string(number) + " out of turn");
  }
  State& state_;
  const int shard_;
  // The shard's thread only.
  uint64_t next_ = 0;
  std::deque<model::ShardStep> posted_;
};

SimulatedRing::SimulatedRing(int shards, uint64_t seed, const RingFault& fault)
    : state_(std::make_unique<State>(shards, seed, fault)) {
  for (int s = 0; s < shards; ++s) ends_.push_back(std::make_unique<End>(*state_, s));
}
SimulatedRing::~SimulatedRing() = default;

model::ShardTransport& SimulatedRing::at(int shard) { return *ends_[shard]; }

// The last one to enter gives the first turn, so nothing depends on the threads' speed.
void SimulatedRing::enter(int shard) {
  std::unique_lock lock(state_->mutex);
  Shard& me = state_->shards[shard];
  if (me.where == Shard::Where::Dead) throw Killed();
  me.ready = [] { return true; };
  me.until = kNever;
  me.where = Shard::Where::Waiting;
  if (++state_->inside == state_->living()) state_->pass_turn();
  me.turn.wait(lock, [&] { return me.where == Shard::Where::Running; });
}

void SimulatedRing::leave(int shard) {
  const std::lock_guard lock(state_->mutex);
  Shard& me = state_->shards[shard];
  if (me.where != Shard::Where::Dead) me.where = Shard::Where::Outside;
  if (--state_->inside > 0) state_->pass_turn();
}

bool SimulatedRing::killed(int shard) const {
  const std::lock_guard lock(state_->mutex);
  return state_->shards[shard].where == Shard::Where::Dead;
}
bool SimulatedRing::struck() const {
  const std::lock_guard lock(state_->mutex);
  return state_->struck;
}
int64_t SimulatedRing::calls(int shard) const {
  const std::lock_guard lock(state_->mutex);
  return state_->shards[shard].calls;
}

}  // namespace ringtide::testing
