#include "actors/unit_shelf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/failing_store.h"

namespace ringtide::actors {
namespace {

class UnitShelfTest : public ::testing::Test {
 protected:
  UnitShelfTest()
      : path_((std::filesystem::temp_directory_path() /
               ("ringtide-shelf-" + std::to_string(::getpid())))
                  .string()) {
    std::filesystem::remove_all(path_);
    auto opened = storage::Store::open(path_, {.fingerprint = "f"});
    EXPECT_TRUE(opened.ok());
    store = std::make_unique<testing::FailingStore>(std::move(opened.value()), faults);
    owner = store->create("a", {}).value().id;
    other = store->create("b", {}).value().id;
  }
  ~UnitShelfTest() override {
    store.reset();
    std::filesystem::remove_all(path_);
  }

  static model::SealedUnit unit(uint64_t key, size_t bytes = 100) {
    auto memory = std::make_shared<std::vector<std::byte>>(bytes, std::byte(key));
    model::SealedUnit made;
    made.key = {key, key};
    made.number = static_cast<int64_t>(key);
    made.parts = {std::span<const std::byte>(*memory)};
    made.owner = memory;
    return made;
  }
  static bool holds(UnitShelf& shelf, uint64_t key, size_t bytes = 100) {
    std::vector<std::byte> into(bytes);
    model::PartRead read{{key, key}, 0, into, {}};
    shelf.read({&read, 1});
    return read.outcome == model::ReadOutcome::Ok &&
           into == std::vector<std::byte>(bytes, std::byte(key));
  }

  std::string path_;
  testing::StoreFaults faults;
  std::unique_ptr<storage::Store> store;
  uint64_t owner = 0, other = 0;
};

TEST_F(UnitShelfTest, AUnitIsReadableBeforeAndAfterItIsWritten) {
  UnitShelf shelf(*store);
  int woken = 0;
  shelf.on_wake([&] { ++woken; });
  shelf.put(owner, unit(1));
  shelf.put(owner, unit(2));
  EXPECT_EQ(woken, 1);
  EXPECT_TRUE(shelf.contains({1, 1}));
  EXPECT_FALSE(store->contains({1, 1}));
  EXPECT_TRUE(holds(shelf, 1));
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_TRUE(store->contains({1, 1}));
  EXPECT_TRUE(holds(shelf, 1) && holds(shelf, 2));
  EXPECT_FALSE(holds(shelf, 3));
  shelf.put(owner, unit(3));
  EXPECT_EQ(woken, 2);
}

TEST_F(UnitShelfTest, EntriesAndGroupsTakeNoUnitsPlace) {
  UnitShelf shelf(*store);
  using Kind = model::SealedUnit::Kind;
  for (const auto& [key, kind] : {std::pair{7, Kind::Group}, {8, Kind::Entry}, {1, Kind::Unit}}) {
    model::SealedUnit put = unit(static_cast<uint64_t>(key));
    put.kind = kind;
    put.number = 1;
    shelf.put(owner, std::move(put));
  }
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_TRUE(holds(shelf, 7) && holds(shelf, 8) && holds(shelf, 1));
  EXPECT_EQ(store->size(owner).value().units, 1);
  EXPECT_EQ(store->size(owner).value().unit_bytes, 300);
}

TEST_F(UnitShelfTest, BatchesAreBounded) {
  UnitShelf shelf(*store, {.shelf_bytes = 1 << 20, .batch_bytes = 150});
  for (uint64_t key = 1; key <= 5; ++key) shelf.put(owner, unit(key));
  EXPECT_TRUE(shelf.write_batch());
  EXPECT_TRUE(store->contains({2, 2}));
  EXPECT_FALSE(store->contains({3, 3}));
  EXPECT_TRUE(shelf.write_batch());
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_TRUE(store->contains({5, 5}));
}

TEST_F(UnitShelfTest, PutWaitsForRoom) {
  UnitShelf shelf(*store, {.shelf_bytes = 250, .batch_bytes = 1000});
  for (uint64_t key = 1; key <= 3; ++key) shelf.put(owner, unit(key));
  std::atomic<bool> put{false};
  std::thread engine([&] {
    shelf.put(owner, unit(4));
    put = true;
  });
  EXPECT_FALSE(put);
  shelf.write_batch();
  engine.join();
  EXPECT_TRUE(holds(shelf, 4));
}

TEST_F(UnitShelfTest, NobodyWaitsForAShelfThatIsAbandoned) {
  UnitShelf shelf(*store, {.shelf_bytes = 50, .batch_bytes = 1000});
  shelf.put(owner, unit(1));
  shelf.abandon();
  shelf.put(owner, unit(2));
  EXPECT_TRUE(holds(shelf, 2));
}

TEST_F(UnitShelfTest, AUnitMayHaveTwoOwners) {
  UnitShelf shelf(*store);
  shelf.put(owner, unit(1));
  shelf.put(other, unit(1));
  shelf.write_batch();
  EXPECT_TRUE(store->remove(owner).ok());
  EXPECT_TRUE(holds(shelf, 1));
  EXPECT_TRUE(store->remove(other).ok());
  EXPECT_FALSE(holds(shelf, 1));
}

TEST_F(UnitShelfTest, AUnitThatReplacesIsReadAtOnceAndStays) {
  const auto of = [](char filling) {
    model::SealedUnit made = unit(1);
    auto memory = std::make_shared<std::vector<std::byte>>(100, std::byte(filling));
    made.parts = {std::span<const std::byte>(*memory)};
    made.owner = memory;
    return made;
  };
  const auto is = [](UnitShelf& shelf, char filling) {
    std::vector<std::byte> into(100);
    model::PartRead read{{1, 1}, 0, into};
    shelf.read({&read, 1});
    return into == std::vector<std::byte>(100, std::byte(filling));
  };
  const auto replacing = [&](char filling) {
    model::SealedUnit made = of(filling);
    made.replaces = true;
    return made;
  };
  UnitShelf shelf(*store);
  shelf.put(owner, of('a'));
  shelf.put(owner, of('b'));
  EXPECT_TRUE(is(shelf, 'a'));
  shelf.put(owner, replacing('c'));  // of what waits
  shelf.put(other, of('c'));
  EXPECT_TRUE(is(shelf, 'c'));
  shelf.write_batch();
  EXPECT_TRUE(is(shelf, 'c'));
  EXPECT_EQ(store->size(other).value().units, 1);
  bool under_way = true;
  faults.before_put = [&] {
    if (!std::exchange(under_way, false)) return;
    shelf.put(owner, replacing('e'));
    EXPECT_TRUE(is(shelf, 'e'));
  };
  shelf.put(owner, replacing('d'));  // of what is written; and then of what is being written
  EXPECT_TRUE(shelf.write_batch());
  EXPECT_TRUE(is(shelf, 'e'));
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_TRUE(is(shelf, 'e'));
}

TEST_F(UnitShelfTest, ARemovedSessionsUnitsAreForgotten) {
  UnitShelf shelf(*store);
  shelf.put(owner, unit(1));
  shelf.put(owner, unit(2));
  shelf.put(other, unit(2));
  shelf.forget(owner);
  shelf.put(owner, unit(3));  // a pass that was still running
  EXPECT_FALSE(holds(shelf, 1));
  EXPECT_TRUE(holds(shelf, 2));
  EXPECT_FALSE(holds(shelf, 3));
  shelf.write_batch();
  EXPECT_EQ(store->size(owner).value().units, 0);
}

TEST_F(UnitShelfTest, WhatCannotBeWrittenIsLetGo) {
  UnitShelf shelf(*store);
  faults.units_full = true;
  shelf.put(owner, unit(1));
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_FALSE(holds(shelf, 1));
  faults.units_full = false;
  shelf.put(owner, unit(1));
  shelf.write_batch();
  EXPECT_TRUE(holds(shelf, 1));
}

TEST_F(UnitShelfTest, AWriteThatThrowsLeavesNothingBehind) {
  UnitShelf shelf(*store, {.shelf_bytes = 50, .batch_bytes = 1000});
  shelf.put(owner, unit(1));
  faults.units_throw = true;
  EXPECT_THROW(shelf.write_batch(), std::runtime_error);
  EXPECT_FALSE(shelf.contains({1, 1}));
  shelf.put(owner, unit(2));  // there is room
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_TRUE(store->contains({2, 2}));
}

TEST_F(UnitShelfTest, ASessionThatStaysIsStoredAgain) {
  UnitShelf shelf(*store);
  shelf.forget(owner);
  shelf.remember(owner);
  shelf.put(owner, unit(1));
  EXPECT_FALSE(shelf.write_batch());
  EXPECT_TRUE(store->contains({1, 1}));
}

TEST_F(UnitShelfTest, APartOfAnotherSizeIsCorrupt) {
  UnitShelf shelf(*store);
  shelf.put(owner, unit(1));
  EXPECT_FALSE(holds(shelf, 1, 99));
  shelf.write_batch();
  EXPECT_FALSE(holds(shelf, 1, 99));
}

}  // namespace
}  // namespace ringtide::actors
