#include "model/mapped_block.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace ringtide::model {
namespace {

size_t resident(const std::byte* block, size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> in_core(bytes / page);
  EXPECT_EQ(mincore(const_cast<std::byte*>(block), bytes, in_core.data()), 0);
  return page * static_cast<size_t>(std::ranges::count_if(in_core, [](auto c) { return c & 1; }));
}

TEST(MappedBlock, MemoryLetGoReturnsToTheSystemButForAFewBlocks) {
  constexpr size_t kBytes = 96 << 10, kCount = 1000;
  std::vector<MappedBlock> blocks;
  std::vector<std::byte*> places;
  for (size_t i = 0; i < kCount; ++i) {
    blocks.emplace_back(kBytes);
    places.push_back(blocks.back().get());
    std::fill_n(places.back(), kBytes, std::byte{7});
  }
  const auto held = [&] {
    size_t bytes = 0;
    for (const std::byte* place : places) bytes += resident(place, kBytes);
    return bytes;
  };
  EXPECT_EQ(held(), kCount * kBytes);
  // Not in the order in which they were taken: nothing depends on neighbours.
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(1));
  blocks.resize(kCount / 2);
  EXPECT_LE(held(), kCount / 2 * kBytes + MappedBlock::kKeptBytes);
  blocks.clear();
  EXPECT_LE(held(), MappedBlock::kKeptBytes);
}

TEST(MappedBlock, AddressesAreUsedAgain) {
  std::set<std::byte*> places;
  for (int round = 0; round < 100; ++round) {
    std::vector<MappedBlock> blocks;
    for (int i = 0; i < 100; ++i) {
      blocks.emplace_back(300 << 10);
      places.insert(blocks.back().get());
    }
  }
  EXPECT_LE(places.size(), 100 + (size_t{4} << 20) / (300 << 10));
}

TEST(MappedBlock, BlocksOfAnySizeDoNotOverlapWhoeverTakesThem) {
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([t] {
      std::mt19937_64 random(static_cast<uint64_t>(t));
      struct Mine {
        MappedBlock block;
        size_t bytes;
        std::byte mark;
      };
      std::vector<Mine> mine;
      for (int i = 0; i < 2000; ++i) {
        if (mine.size() > 30) {
          std::swap(mine[random() % mine.size()], mine.back());
          const Mine& last = mine.back();
          EXPECT_TRUE(std::all_of(last.block.get(), last.block.get() + last.bytes,
                                  [&](std::byte b) { return b == last.mark; }));
          mine.pop_back();
        }
        const size_t bytes = 1 + random() % 20000;
        mine.push_back({MappedBlock(bytes), bytes, static_cast<std::byte>(random())});
        EXPECT_EQ(reinterpret_cast<uintptr_t>(mine.back().block.get()) % 64, 0u);
        std::fill_n(mine.back().block.get(), bytes, mine.back().mark);
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(MappedBlock, MovesAndIsEmptyAfterwards) {
  MappedBlock a(100);
  std::byte* const place = a.get();
  MappedBlock b = std::move(a);
  EXPECT_EQ(b.get(), place);
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move)
  MappedBlock c;
  EXPECT_FALSE(c);
  c = std::move(b);
  EXPECT_EQ(c.get(), place);
}

}  // namespace
}  // namespace ringtide::model
