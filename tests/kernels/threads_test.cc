#include "kernels/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

namespace ringtide::kernels {
namespace {

class Threads : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, Threads, testing::Values(1, 2, 3, 4, 16));

TEST_P(Threads, CallEveryIndexOnceLoopAfterLoop) {
  ThreadPool pool(GetParam());
  ASSERT_EQ(pool.size(), GetParam());
  std::vector<int> calls;
  std::atomic<bool> bad_thread = false;
  for (int loop = 0; loop < 2000; ++loop) {
    const int n = loop % 37;
    calls.assign(n, 0);  // plain integers: the loop itself must order the accesses
    pool.parallel_for(n, [&](int64_t i, int thread) {
      calls[i] += 1;
      if (thread < 0 || thread >= GetParam()) bad_thread = true;
    });
    ASSERT_EQ(std::accumulate(calls.begin(), calls.end(), 0), n);
    ASSERT_EQ(calls, std::vector<int>(n, 1));
  }
  EXPECT_FALSE(bad_thread);
}

TEST_P(Threads, SeeWhatTheLoopBeforeWrote) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> a(500), b(500);
  std::iota(a.begin(), a.end(), 0);
  for (int loop = 0; loop < 200; ++loop) {
    pool.parallel_for(500, [&](int64_t i, int) { b[i] = a[(i + 1) % 500]; });
    std::swap(a, b);
  }
  for (int64_t i = 0; i < 500; ++i) ASSERT_EQ(a[i], (i + 200) % 500);
}

TEST_P(Threads, OneThreadRunsOneBodyAtATime) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(GetParam());
  std::atomic<bool> overlap = false;
  pool.parallel_for(20000, [&](int64_t, int thread) {
    if (inside[thread].fetch_add(1) != 0) overlap = true;
    inside[thread].fetch_sub(1);
  });
  EXPECT_FALSE(overlap);
}

TEST(ThreadPool, AcceptsAnEmptyLoop) {
  ThreadPool pool(2);
  pool.parallel_for(0, [](int64_t, int) { FAIL(); });
}

TEST(ThreadPool, RefusesNoThreads) {
  EXPECT_THROW(ThreadPool(0), std::invalid_argument);
  EXPECT_THROW(ThreadPool(-3), std::invalid_argument);
}

TEST(ThreadPool, KeepsScratchAlignedAndGrowsIt) {
  ThreadPool pool(2);
  std::byte* small = pool.scratch(1, 100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(small) % 64, 0u);
  EXPECT_EQ(pool.scratch(1, 50), small);
  std::byte* large = pool.scratch(1, 1 << 20);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large) % 64, 0u);
  large[(1 << 20) - 1] = std::byte{1};
  EXPECT_NE(pool.scratch(0, 100), large);
}

// Destruction joins workers whether they sleep, spin or never ran.
TEST(ThreadPool, EndsInAnyState) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(1 + i % 5);
    std::atomic<int> sum = 0;
    if (i % 2) pool.parallel_for(10, [&](int64_t, int) { ++sum; });
    EXPECT_EQ(sum, i % 2 ? 10 : 0);
  }
}

// Processor time of the whole process, whatever else the machine does.
TEST(ThreadPool, TakesNoProcessorTimeBetweenLoops) {
  ThreadPool pool(2);
  for (int i = 0; i < 100; ++i) pool.parallel_for(64, [](int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 50);
}

}  // namespace
}  // namespace ringtide::kernels
