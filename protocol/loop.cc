#include "protocol/loop.h"

#include <utility>

namespace ringtide::protocol {

bool Post::post(Task task) {
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    tasks_.push_back(std::move(task));
    wake = kj::mv(wake_);
  }
  if (wake.get() != nullptr) wake->fulfill();
  return true;
}

kj::Promise<void> Post::run() {
  return wait().then([this]() {
    drain();
    return run();
  });
}

void Post::close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    wake_ = nullptr;
  }
  drain();
}

kj::Promise<void> Post::wait() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!tasks_.empty()) return kj::READY_NOW;
  auto pair = kj::newPromiseAndCrossThreadFulfiller<void>();
  wake_ = kj::mv(pair.fulfiller);
  return kj::mv(pair.promise);
}

void Post::drain() {
  std::deque<Task> tasks;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks.swap(tasks_);
  }
  for (auto& task : tasks) task();
}

}  // namespace ringtide::protocol
