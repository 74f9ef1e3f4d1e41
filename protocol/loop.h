// The bridge between a KJ event loop and the other threads of the process. Inside this room only.
//
// A Post carries closures from any thread onto the loop; ask() makes a callback that any thread may
// call and a promise for what it was called with. Neither needs an event loop on the calling
// thread, and both may be used after the loop is gone.
#pragma once

#include <kj/async.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <tuple>

namespace ringtide::protocol {

class Post {
 public:
  using Task = std::function<void()>;

  // Any thread. Runs `task` on the loop, in order. False: the loop is gone, and `task` will not
  // run.
  bool post(Task task);
  // Loop thread: runs what is posted for as long as the promise is kept.
  kj::Promise<void> run();
  // Loop thread, after the promise of run() is dropped: runs what is left and refuses the rest.
  void close();

 private:
  kj::Promise<void> wait();
  void drain();

  std::mutex mutex_;
  std::deque<Task> tasks_;                               // guarded by mutex_
  bool closed_ = false;                                  // guarded by mutex_
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> wake_;  // guarded by mutex_
};

// A question to another thread: `reply` is its answer, given once from any thread. If every copy of
// `reply` is dropped unanswered the promise fails.
template <class... Args>
struct Question {
  kj::Promise<std::tuple<Args...>> answer;
  std::function<void(Args...)> reply;
};

template <class... Args>
Question<Args...> ask() {
  using Answer = std::tuple<Args...>;
  auto pair = kj::newPromiseAndCrossThreadFulfiller<Answer>();
  auto fulfiller =
      std::make_shared<kj::Own<kj::CrossThreadPromiseFulfiller<Answer>>>(kj::mv(pair.fulfiller));
  return {kj::mv(pair.promise),
          [fulfiller](Args... args) { (*fulfiller)->fulfill(Answer(std::move(args)...)); }};
}

}  // namespace ringtide::protocol
