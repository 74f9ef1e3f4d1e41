#include "deploy/progress.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <string>

namespace ringtide::deploy {
namespace {

// What is written to standard error while one lives, which is a terminal of so many columns.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) {
    winsize size{24, columns, 0, 0};
    EXPECT_EQ(openpty(&seen_, &shown_, nullptr, nullptr, &size), 0);
    before_ = dup(STDERR_FILENO);
    dup2(shown_, STDERR_FILENO);
  }
  ~Terminal() {
    dup2(before_, STDERR_FILENO);
    for (const int fd : {before_, shown_, seen_}) close(fd);
  }
  std::string text() {
    std::string all;
    for (pollfd ready{seen_, POLLIN, 0}; poll(&ready, 1, 100) == 1;) {
      char buffer[4096];
      const ssize_t size = read(seen_, buffer, sizeof buffer);
      if (size <= 0) break;
      all.append(buffer, static_cast<size_t>(size));
    }
    return all;
  }

 private:
  int seen_ = -1, shown_ = -1, before_ = -1;
};

std::string drawn(unsigned short columns) {
  Terminal terminal(columns);
  Progress progress(true);
  progress.start("ingesting", "tokens", 1000);
  progress.update(1000, 1000);
  return terminal.text();
}

TEST(Progress, IsNotLongerThanTheTerminalIsWide) {
  const std::string wide = drawn(80), narrow = drawn(20);
  EXPECT_NE(wide.find("100%  1,000 tokens"), std::string::npos) << wide;
  EXPECT_NE(narrow.find("ingesting  [#######"), std::string::npos) << narrow;
  EXPECT_EQ(narrow.find("ingesting  [########"), std::string::npos) << narrow;
}

TEST(Progress, OfAnUnknownWholeTellsWhatIsDone) {
  Terminal terminal(80);
  Progress progress(true);
  progress.start("sending", "bytes", 0);
  EXPECT_EQ(terminal.text(), "\r\x1b[Ksending     0 bytes");
}

}  // namespace
}  // namespace ringtide::deploy
