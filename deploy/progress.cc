#include "deploy/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "deploy/format.h"

namespace ringtide::deploy {

namespace {

// A longer line would take two of the terminal's, of which only the last is drawn over.
size_t room() {
  winsize size{};
  const bool terminal = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return terminal ? size.ws_col - 1 : std::string_view::npos;
}

}  // namespace

bool wants_progress(bool asked) { return asked || isatty(STDERR_FILENO) == 1; }

void Progress::start(const std::string& phase, const std::string& unit, int64_t total) {
  if (!on_ || (running_ && phase == phase_)) return;
  stop();
  running_ = true;
  first_ = true;
  phase_ = phase;
  unit_ = unit;
  done_ = base_ = 0;
  total_ = total;
  started_ = drawn_ = Clock::now();
  draw();
}

void Progress::update(int64_t done, int64_t total) {
  if (!running_) return;
  done_ = done;
  total_ = total;
  if (first_) {
    first_ = false;
    base_ = done;
    started_ = Clock::now();
  }
  const auto now = Clock::now();
  if (now - drawn_ < std::chrono::milliseconds(100) && (done < total || total == 0)) return;
  drawn_ = now;
  draw();
}

void Progress::stop() {
  if (!running_) return;
  running_ = false;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

void Progress::draw() {
  constexpr int kCells = 24;
  std::string line = fmt::format("{:<10}", phase_);
  if (total_ > 0) {
    const double part =
        std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0., 1.);
    const int full = static_cast<int>(part * kCells);
    line += fmt::format(" [{}{}] {:3.0f}%", std::string(full, '#'), std::string(kCells - full, '.'),
                        part * 100);
  }
  if (!unit_.empty()) line += fmt::format("  {} {}", show_count(done_), unit_);
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto gained = static_cast<double>(done_ - base_);
  if (!unit_.empty() && gained > 0 && seconds > 0.2) {
    line += fmt::format("  {}/s", show_count(static_cast<int64_t>(gained / seconds)));
    if (total_ > done_) {
      line += fmt::format("  {} left",
                          show_seconds(static_cast<double>(total_ - done_) * seconds / gained));
    }
  }
  fmt::print(stderr, "\r\033[K{}", std::string_view(line).substr(0, room()));
  std::fflush(stderr);
}

}  // namespace ringtide::deploy
