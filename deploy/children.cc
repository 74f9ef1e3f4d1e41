#include "deploy/children.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "deploy/failure.h"

namespace ringtide::deploy {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kFirstDelay{100}, kLongestDelay{10000};  // before it is started again
constexpr milliseconds kSteady{10000};    // after one that ran so long it is the first delay again
constexpr milliseconds kStopping{10000};  // to end by itself

// Usage and model do not change by themselves, nor does what a leader refuses.
bool is_final(int status) {
  if (!WIFEXITED(status)) return false;
  const auto code = static_cast<Exit>(WEXITSTATUS(status));
  return code == Exit::Usage || code == Exit::Model || code == Exit::Refused;
}

std::string tell(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

// In the memory of the parent, whose thread waits until exec: system calls and nothing else.
[[noreturn]] void become(char* const* argv, pid_t parent, int null) {
  // Ended by the kernel with the thread that started it, also where that is killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  setpgid(0, 0);  // Ctrl-C is for the parent, which ends its children in order
  dup2(null, STDIN_FILENO);
  dup2(null, STDOUT_FILENO);
  execv("/proc/self/exe", argv);
  _exit(127);
}

}  // namespace

// One child and the thread that keeps it.
class Children::Keeper {
 public:
  Keeper(Child child, std::function<void(const std::string&)> gave_up)
      : child_(std::move(child)), gave_up_(std::move(gave_up)), thread_([this] { run(); }) {}

  void stop() { signal(SIGTERM, true); }
  // When stopped before.
  void join() {
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait_for(lock, kStopping, [&] { return done_; }) && pid_ > 0)
        ::kill(pid_, SIGKILL);
    }
    thread_.join();
  }
  void signal(int number, bool stopping = false) {
    const std::lock_guard lock(mutex_);
    stopping_ = stopping_ || stopping;
    if (pid_ > 0) ::kill(pid_, number);
    changed_.notify_all();
  }
  const std::string& name() const { return child_.name; }

 private:
  pid_t start() {
    std::vector<char*> argv = {const_cast<char*>("ringtide")};
    for (std::string& argument : child_.arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const pid_t parent = getpid();
    const pid_t pid = vfork();
    if (pid == 0) become(argv.data(), parent, null);
    close(null);
    return pid;
  }

  void run() {
    milliseconds delay = kFirstDelay;
    for (;;) {
      const auto began = Clock::now();
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) break;
        pid_ = start();
      }
      if (pid_ < 0) {
        spdlog::error("cannot start {}: {}", child_.name, std::strerror(errno));
      } else {
        const int status = wait();
        if (stopped()) break;
        if (is_final(status)) {
          gave_up_(fmt::format("{} {}; it said why", child_.name, tell(status)));
          break;
        }
        spdlog::warn("{} {}: starting it again", child_.name, tell(status));
      }
      delay = Clock::now() - began > kSteady ? kFirstDelay : std::min(delay * 2, kLongestDelay);
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, delay, [&] { return stopping_; });
    }
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

  // Until it has ended. Its number stays its own until it is waited for, under the lock.
  int wait() {
    siginfo_t info{};
    while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
      continue;
    const std::lock_guard lock(mutex_);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return status;
  }
  bool stopped() {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }

  Child child_;
  const std::function<void(const std::string&)> gave_up_;
  std::mutex mutex_;
  std::condition_variable changed_;
  pid_t pid_ = 0;                         // written under mutex_ by the thread; 0: it does not run
  bool stopping_ = false, done_ = false;  // guarded by mutex_
  std::thread thread_;                    // last: it uses what is above
};

Children::Children(std::vector<Child> children,
                   std::function<void(const std::string& why)> gave_up) {
  for (Child& child : children)
    keepers_.push_back(std::make_unique<Keeper>(std::move(child), gave_up));
}

Children::~Children() {
  for (const auto& keeper : keepers_) keeper->stop();
  for (const auto& keeper : keepers_) keeper->join();
}

void Children::kill(const std::string& name) {
  for (const auto& keeper : keepers_) {
    if (keeper->name() == name) keeper->signal(SIGKILL);
  }
}

}  // namespace ringtide::deploy
