#include "deploy/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace ringtide::deploy {

namespace {

// Read by the signal handler: plain memory, written while the signal is blocked.
char farewell_text[16 << 10];
std::atomic<bool> only_flag{false};
std::atomic<bool> flagged{false};

void on_signal(int) {
  if (only_flag && !flagged.exchange(true)) return;
  [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, farewell_text, strlen(farewell_text));
  _exit(130);
}

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

void block_signals() {
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int wait_for_stop_signal() {
  const sigset_t set = stop_signals();
  int number = 0;
  while (sigwait(&set, &number) != 0) {
  }
  return number;
}

void exit_on_interrupt(const std::string& farewell) {
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  strncpy(farewell_text, farewell.c_str(), sizeof farewell_text - 1);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

InterruptScope::InterruptScope() {
  flagged = false;
  only_flag = true;
}

InterruptScope::~InterruptScope() { only_flag = false; }

bool InterruptScope::interrupted() const { return flagged; }

}  // namespace ringtide::deploy
