// Whether the engine of this process's rings is at work: what a ring is not ended for without need.
//
// Any thread.
#pragma once

#include <atomic>
#include <chrono>

namespace ringtide::actors::cluster {

class Activity {
 public:
  // A call of the engine, for as long as it takes.
  class Call {
   public:
    explicit Call(Activity& activity) : activity_(activity) { ++activity_.calls_; }
    ~Call() {
      activity_.last_ = Clock::now();
      --activity_.calls_;
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Activity& activity_;
  };
  // A call is under way, or ended no longer than so ago.
  bool within(std::chrono::milliseconds time) const {
    return calls_ > 0 || Clock::now() - last_.load() < time;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::atomic<int> calls_{0};
  std::atomic<Clock::time_point> last_{Clock::time_point{}};
};

}  // namespace ringtide::actors::cluster
