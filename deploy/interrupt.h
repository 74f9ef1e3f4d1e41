// Ctrl-C and SIGTERM.
//
// Blocked before any thread exists, so that no library thread dies of one. `serve` waits for them;
// the other commands let them in, and may: dying at any moment loses nothing that was acknowledged.
#pragma once

#include <string>

namespace ringtide::deploy {

// First thing in main.
void block_signals();

// For `serve`: returns when SIGINT or SIGTERM came; its number.
int wait_for_stop_signal();

// For the other commands: from now on Ctrl-C prints `farewell` and ends the process with 130.
void exit_on_interrupt(const std::string& farewell);

// While one lives, the first Ctrl-C only sets a flag.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  bool interrupted() const;
};

}  // namespace ringtide::deploy
