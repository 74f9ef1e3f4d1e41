// Threads that share the items of one job with the thread that brings it. The installed database
// has no asynchronous reads; threads are how several disk reads are under way at once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

namespace ringtide::storage {

class ReadPool {
 public:
  // `threads` includes the caller's: 1 or less means that no thread is made.
  explicit ReadPool(int threads);
  ~ReadPool();  // no job may be running

  // Calls `item(i)` once for each i < count, from several threads, and returns when all are done.
  // `item` does not throw. Any thread may call this, also several at once.
  void for_each(size_t count, const std::function<void(size_t)>& item);

 private:
  struct Job {
    const std::function<void(size_t)>& item;
    const size_t count;
    size_t next = 0;  // first that nobody took
    size_t done = 0;
  };

  void help();
  // Takes one item of the job and runs it outside the lock; false if all are taken.
  bool run_one(std::unique_lock<std::mutex>& lock, Job& job);

  std::mutex mutex_;
  std::condition_variable wake_;      // a job came, or stopping_
  std::condition_variable done_;      // a job's last item is done
  std::list<Job*> jobs_;              // with items that nobody took; guarded by mutex_
  bool stopping_ = false;             // guarded by mutex_
  std::vector<std::thread> threads_;  // constant after construction
};

}  // namespace ringtide::storage
