#include "storage/block_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

namespace ringtide::storage {
namespace {

TEST(BlockPool, HandsLargeBlocksOutAgain) {
  BlockPool pool(1 << 20);
  void* block = pool.Allocate(200'000);
  std::memset(block, 1, 200'000);
  pool.Deallocate(block);
  EXPECT_GE(pool.kept_bytes(), 200'000u);
  EXPECT_EQ(pool.Allocate(199'000), block);
  EXPECT_EQ(pool.kept_bytes(), 0u);
  pool.Deallocate(block);
}

TEST(BlockPool, KeepsNoMoreThanItsBound) {
  BlockPool pool(300'000);
  void* first = pool.Allocate(200'000);
  void* second = pool.Allocate(200'000);
  pool.Deallocate(first);
  pool.Deallocate(second);
  EXPECT_LE(pool.kept_bytes(), 300'000u);
}

TEST(BlockPool, SmallBlocksAreNotKept) {
  BlockPool pool(1 << 20);
  void* block = pool.Allocate(100);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignof(std::max_align_t), 0u);
  pool.Deallocate(block);
  pool.Deallocate(nullptr);
  EXPECT_EQ(pool.kept_bytes(), 0u);
}

}  // namespace
}  // namespace ringtide::storage
