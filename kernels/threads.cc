#include "kernels/threads.h"

#include <atomic>
#include <chrono>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace ringtide::kernels {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr size_t kLine = 64;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The gate through which workers enter a loop: which loop it is, whether it still takes workers and
// how many are inside. A worker that wakes after the gate was closed has missed nothing.
constexpr uint32_t kInside = 0xfff;
constexpr uint32_t kOpen = 0x1000;
constexpr uint32_t kLoop = 0x2000;  // the lowest bit of the loop's number
constexpr int kMaxThreads = 1024;

uint32_t loop_of(uint32_t gate) { return gate & ~(kLoop - 1); }

struct alignas(kLine) Scratch {
  std::byte* data = nullptr;
  size_t size = 0;

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }
  void release() {
    if (data) ::operator delete (data, std::align_val_t{kLine});
  }
  std::byte* grow(size_t bytes) {
    if (bytes > size) {
      const size_t wanted = (bytes + kLine - 1) / kLine * kLine;
      auto* fresh = static_cast<std::byte*>(::operator new (wanted, std::align_val_t{kLine}));
      release();
      data = fresh;
      size = wanted;
    }
    return data;
  }
};

}  // namespace

struct ThreadPool::State {
  explicit State(int threads) : scratch(threads) {}

  // The loop; written by the caller while the gate is closed and nobody inside.
  Body body = nullptr;
  void* closure = nullptr;
  int64_t n = 0;

  alignas(kLine) std::atomic<int64_t> next{0};
  alignas(kLine) std::atomic<uint32_t> gate{0};
  std::atomic<bool> stopping{false};
  bool spin = true;

  std::vector<Scratch> scratch;
  std::vector<std::thread> workers;

  void work(int thread) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;)
      body(closure, i, thread);
  }

  // Returns the gate once it is no longer at loop `seen`.
  uint32_t await(uint32_t seen) {
    const auto changed = [&](uint32_t g) { return loop_of(g) != seen; };
    uint32_t g = gate.load(std::memory_order_acquire);
    if (spin && !changed(g)) {
      const auto until = std::chrono::steady_clock::now() + kSpin;
      do {
        for (int i = 0; i < 64 && !changed(g); ++i) {
          pause();
          g = gate.load(std::memory_order_acquire);
        }
      } while (!changed(g) && std::chrono::steady_clock::now() < until);
    }
    while (!changed(g)) {
      gate.wait(g, std::memory_order_acquire);
      g = gate.load(std::memory_order_acquire);
    }
    return g;
  }

  bool enter(uint32_t g) {
    const uint32_t loop = loop_of(g);
    while ((g & kOpen) && loop_of(g) == loop) {
      if (gate.compare_exchange_weak(g, g + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }

  void leave() {
    const uint32_t before = gate.fetch_sub(1, std::memory_order_release);
    if (!(before & kOpen) && (before & kInside) == 1) gate.notify_all();
  }

  void worker(int thread) {
    for (uint32_t seen = 0;;) {
      const uint32_t g = await(seen);
      if (stopping.load(std::memory_order_relaxed)) return;
      seen = loop_of(g);
      if (!enter(g)) continue;
      work(thread);
      leave();
    }
  }

  void open() {
    const uint32_t g = gate.load(std::memory_order_relaxed);
    gate.store(loop_of(g) + kLoop + kOpen, std::memory_order_release);
    gate.notify_all();
  }

  void close_and_wait() {
    uint32_t g = gate.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    for (int i = 0; spin && (g & kInside) && i < 4096; ++i) {
      pause();
      g = gate.load(std::memory_order_acquire);
    }
    while (g & kInside) {
      gate.wait(g, std::memory_order_acquire);
      g = gate.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw std::invalid_argument("threads must be from 1 to " + std::to_string(kMaxThreads) +
                                ", not " + std::to_string(threads));
  }
  state_ = std::make_unique<State>(threads);
  // A spinning thread without a processor of its own only delays the others.
  state_->spin = static_cast<unsigned>(threads) <= std::thread::hardware_concurrency();
  state_->workers.reserve(threads - 1);
  for (int t = 1; t < threads; ++t) state_->workers.emplace_back(&State::worker, state_.get(), t);
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_relaxed);
  state_->open();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return static_cast<int>(state_->scratch.size()); }

void ThreadPool::run(int64_t n, Body body, void* closure) {
  State& s = *state_;
  if (s.workers.empty() || n <= 1) {
    for (int64_t i = 0; i < n; ++i) body(closure, i, 0);
    return;
  }
  s.body = body;
  s.closure = closure;
  s.n = n;
  s.next.store(0, std::memory_order_relaxed);
  s.open();
  s.work(0);
  s.close_and_wait();
}

std::byte* ThreadPool::scratch(int thread, size_t bytes) {
  return state_->scratch[thread].grow(bytes);
}

}  // namespace ringtide::kernels
