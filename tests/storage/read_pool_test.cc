#include "storage/read_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

namespace ringtide::storage {
namespace {

TEST(ReadPool, DoesEachItemOnce) {
  for (const int threads : {-1, 1, 2, 4}) {
    ReadPool pool(threads);
    for (const size_t count : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> calls(count);
      pool.for_each(count, [&](size_t i) { ++calls[i]; });
      for (const auto& called : calls) EXPECT_EQ(called, 1);
    }
  }
}

TEST(ReadPool, ItemsRunAtTheSameTime) {
  ReadPool pool(3);
  std::latch all(3);
  // Returns only if three threads are inside at once.
  pool.for_each(3, [&](size_t) { all.arrive_and_wait(); });
}

TEST(ReadPool, SeveralJobsAtOnce) {
  ReadPool pool(2);
  std::atomic<int> calls = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) pool.for_each(17, [&](size_t) { ++calls; });
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(calls, 4 * 100 * 17);
}

}  // namespace
}  // namespace ringtide::storage
