#include "storage/read_pool.h"

namespace ringtide::storage {

ReadPool::ReadPool(int threads) {
  for (int i = 1; i < threads; ++i) threads_.emplace_back([this] { help(); });
}

ReadPool::~ReadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ReadPool::for_each(size_t count, const std::function<void(size_t)>& item) {
  if (threads_.empty() || count < 2) {
    for (size_t i = 0; i < count; ++i) item(i);
    return;
  }
  Job job{.item = item, .count = count};
  std::unique_lock lock(mutex_);
  jobs_.push_back(&job);
  wake_.notify_all();
  while (run_one(lock, job)) continue;
  done_.wait(lock, [&] { return job.done == job.count; });
}

void ReadPool::help() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    run_one(lock, *jobs_.front());
  }
}

bool ReadPool::run_one(std::unique_lock<std::mutex>& lock, Job& job) {
  if (job.next == job.count) return false;
  const size_t i = job.next++;
  if (job.next == job.count) jobs_.remove(&job);
  lock.unlock();
  job.item(i);
  lock.lock();
  if (++job.done == job.count) done_.notify_all();
  return true;
}

}  // namespace ringtide::storage
