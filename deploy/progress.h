// One line on stderr that shows how far a phase is: bar, rate, time left.
//
// Drawn at most ten times a second; a Progress that is off draws nothing and costs nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ringtide::deploy {

class Progress {
 public:
  explicit Progress(bool on) : on_(on) {}
  ~Progress() { stop(); }

  bool on() const { return on_; }
  // `total` 0: not known, and the line shows what is done only. A running phase of the same name
  // goes on; another is ended.
  void start(const std::string& phase, const std::string& unit, int64_t total);
  void update(int64_t done, int64_t total);
  void stop();  // clears the line

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  const bool on_;
  bool running_ = false;
  bool first_ = true;  // no update yet: the rate counts from the first one
  std::string phase_, unit_;
  int64_t done_ = 0, total_ = 0, base_ = 0;
  Clock::time_point started_, drawn_;
};

// On where stderr is a terminal, or where the user asked for it.
bool wants_progress(bool asked);

}  // namespace ringtide::deploy
