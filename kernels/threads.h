// A fixed team of threads that runs one loop at a time.
//
// The engine is the only user: one loop follows the other from one calling thread, so the team
// keeps no queue. Workers spin for some microseconds after a loop, since the next one of a forward
// pass comes at once, and then sleep: an idle engine costs no processor time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace ringtide::kernels {

class ThreadPool {
 public:
  // `threads` >= 1 counts the calling thread; 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(i, thread) once for each i in [0, n), thread in [0, size()), and returns when all
  // have returned. Indices are handed out dynamically: results must not depend on which thread ran
  // one. Allocates nothing. One caller at a time; not reentrant. `body` must not throw.
  template <class F>
  void parallel_for(int64_t n, F&& body) {
    run(
        n, [](void* f, int64_t i, int t) { (*static_cast<std::remove_reference_t<F>*>(f))(i, t); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // At least `bytes` of scratch memory of one thread, 64-byte aligned, kept and only ever grown;
  // its content does not survive the loop. Thread 0's may be used between loops by the caller.
  std::byte* scratch(int thread, size_t bytes);

 private:
  using Body = void (*)(void*, int64_t, int);
  void run(int64_t n, Body body, void* closure);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ringtide::kernels
