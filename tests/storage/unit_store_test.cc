#include "storage/unit_store.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/storage/temp_store.h"

namespace ringtide::storage {
namespace {

class UnitStoreTest : public StoreTest {
 protected:
  size_t rows(const std::string& family_name) {
    size_t count = 0;
    with_database("units", [&](rocksdb::DB& db, auto families) {
      for (auto* family : families) {
        if (family->GetName() != family_name) continue;
        const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}, family));
        for (it->SeekToFirst(); it->Valid(); it->Next()) ++count;
      }
    });
    return count;
  }
};

TEST_F(UnitStoreTest, PartsComeBackAtOnceAndAfterReopen) {
  const SessionId id = create("a");
  const TestUnit unit = make_unit(id, 0, {100'000, 1, 0, 196'608, 70});
  EXPECT_FALSE(store().contains(unit.key));
  EXPECT_EQ(read(unit)[0], ReadOutcome::Absent);
  ASSERT_TRUE(put(unit).ok());
  EXPECT_TRUE(store().contains(unit.key));
  EXPECT_TRUE(reads_back(unit));
  open();
  EXPECT_TRUE(store().contains(unit.key));
  EXPECT_TRUE(reads_back(unit));
  EXPECT_EQ(store().stats().units, 1);
  EXPECT_EQ(store().stats().unit_bytes, 100'000 + 1 + 196'608 + 70);
}

TEST_F(UnitStoreTest, FlushedUnitsAreReadFromFiles) {
  const SessionId id = create("a");
  std::vector<TestUnit> units;
  for (int i = 0; i < 50; ++i) {
    units.push_back(make_unit(id, i));
    ASSERT_TRUE(put(units.back()).ok());
  }
  ASSERT_TRUE(store().flush().ok());
  for (const auto& unit : units) EXPECT_TRUE(reads_back(unit));
}

TEST_F(UnitStoreTest, ManyPartsOfManyUnitsInOneRead) {
  const SessionId id = create("a");
  std::vector<TestUnit> units;
  std::vector<PartRead> reads;
  std::vector<std::vector<std::byte>> into;
  for (int i = 0; i < 20; ++i) {
    units.push_back(make_unit(id, i, {3000, 500, 7}));
    ASSERT_TRUE(put(units.back()).ok());
  }
  units.push_back(make_unit(id, 999, {10}));  // never put
  for (const auto& unit : units)
    for (const auto& part : unit.parts) into.emplace_back(part.size());
  size_t at = 0;
  for (const auto& unit : units)
    for (uint32_t part = 0; part < unit.parts.size(); ++part)
      reads.push_back({.key = unit.key, .part = part, .into = into[at++]});
  std::reverse(reads.begin(), reads.end());
  store().read(reads);
  EXPECT_EQ(reads[0].outcome, ReadOutcome::Absent);
  for (size_t i = 1; i < reads.size(); ++i) EXPECT_EQ(reads[i].outcome, ReadOutcome::Ok);
  at = 0;
  for (size_t i = 0; i < 20; ++i)
    for (const auto& part : units[i].parts) EXPECT_EQ(into[at++], part);
}

TEST_F(UnitStoreTest, PuttingTheSameAgainCountsOnce) {
  const SessionId id = create("a");
  const TestUnit unit = make_unit(id, 3);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(put(unit).ok());
  open();
  ASSERT_TRUE(put(unit).ok());
  EXPECT_EQ(store().stats().units, 1);
  EXPECT_EQ(store().size(id).value().units, 1);
  EXPECT_EQ(store().size(id).value().unit_bytes, 4070);
  EXPECT_EQ(rows("payload"), 2u);
}

TEST_F(UnitStoreTest, SharedUnitStaysUntilItsLastOwnerGoes) {
  const SessionId a = create("a"), b = create("b");
  const TestUnit shared = make_unit(a, 0), own = make_unit(a, 1);
  ASSERT_TRUE(put(shared).ok());
  ASSERT_TRUE(put(own).ok());
  ASSERT_TRUE(put(shared.owned_by(b)).ok());
  EXPECT_EQ(store().stats().units, 2);
  EXPECT_EQ(store().size(b).value().units, 1);
  ASSERT_TRUE(store().remove(a).ok());
  EXPECT_TRUE(reads_back(shared));
  EXPECT_FALSE(store().contains(own.key));
  EXPECT_EQ(read(own)[0], ReadOutcome::Absent);
  EXPECT_EQ(store().stats().units, 1);
  open();
  EXPECT_TRUE(reads_back(shared));
  EXPECT_EQ(store().stats().units, 1);
  ASSERT_TRUE(store().remove(b).ok());
  EXPECT_FALSE(store().contains(shared.key));
  EXPECT_EQ(store().stats().units, 0);
  EXPECT_EQ(store().stats().unit_bytes, 0);
  EXPECT_EQ(store().stats().corrupt_parts, 0);
  EXPECT_EQ(rows("payload"), 0u);
  EXPECT_EQ(rows("default"), 0u);
}

TEST_F(UnitStoreTest, OneKeyAtTwoPlacesOfASession) {
  const SessionId id = create("a");
  TestUnit unit = make_unit(id, 0);
  ASSERT_TRUE(put(unit).ok());
  unit.number = 1;
  ASSERT_TRUE(put(unit).ok());
  EXPECT_EQ(store().stats().units, 1);
  EXPECT_EQ(store().size(id).value().units, 2);
  ASSERT_TRUE(store().remove(id).ok());
  EXPECT_EQ(rows("payload"), 0u);
  EXPECT_EQ(rows("default"), 0u);
}

TEST_F(UnitStoreTest, AUnitThatReplacesTakesThePlace) {
  const SessionId a = create("a"), b = create("b");
  const TestUnit before = make_unit(a, 0, {4000, 70});
  ASSERT_TRUE(put(before).ok());
  ASSERT_TRUE(put(before.owned_by(b)).ok());
  TestUnit after = make_unit(a, 1, {4000, 90});
  after.key = before.key;
  after.number = before.number;
  ASSERT_TRUE(put(after).ok());
  EXPECT_TRUE(reads_back(before));
  UnitWrite write = after.write();
  write.replaces = true;
  ASSERT_TRUE(store().put({&write, 1}).ok());
  EXPECT_TRUE(reads_back(after));
  open();
  EXPECT_TRUE(reads_back(after));
  EXPECT_EQ(store().stats().units, 1);
  EXPECT_EQ(store().stats().unit_bytes, 4090);
  EXPECT_EQ(store().size(b).value().units, 0);
  ASSERT_TRUE(store().remove(a).ok());
  ASSERT_TRUE(store().remove(b).ok());
  EXPECT_EQ(rows("payload"), 0u);
  EXPECT_EQ(rows("default"), 0u);
}

TEST_F(UnitStoreTest, GroupsOfTheIndexCountAsBytesNotAsUnits) {
  const SessionId id = create("a");
  TestUnit group = make_unit(id, 1);
  group.number = kGroupNumbers + 1;
  ASSERT_TRUE(put(make_unit(id, 0)).ok());
  ASSERT_TRUE(put(group).ok());
  open();
  EXPECT_EQ(store().size(id).value().units, 1);
  EXPECT_EQ(store().size(id).value().unit_bytes, 2 * 4070);
  EXPECT_TRUE(reads_back(group));
  ASSERT_TRUE(store().remove(id).ok());
  EXPECT_EQ(rows("payload"), 0u);
  EXPECT_EQ(rows("default"), 0u);
}

TEST_F(UnitStoreTest, AnotherUnitInTheSamePlaceReleasesTheFirst) {
  const SessionId id = create("a");
  const TestUnit before = make_unit(id, 0);
  TestUnit after = make_unit(id, 77);
  after.number = 0;
  ASSERT_TRUE(put(before).ok());
  ASSERT_TRUE(put(after).ok());
  EXPECT_FALSE(store().contains(before.key));
  EXPECT_TRUE(reads_back(after));
  EXPECT_EQ(store().size(id).value().units, 1);
  EXPECT_EQ(store().stats().units, 1);
  EXPECT_EQ(rows("payload"), 2u);
}

TEST_F(UnitStoreTest, OwnersMustExist) {
  EXPECT_EQ(put(make_unit(55, 0)).code(), Code::NotFound);
  const SessionId id = create("a");
  EXPECT_EQ(put(make_unit(id, -1)).code(), Code::Failed);
  EXPECT_EQ(store().stats().units, 0);
}

TEST_F(UnitStoreTest, UnitsOfAnotherFingerprintAreAbsentAndReplaced) {
  const SessionId id = create("a");
  const TestUnit unit = make_unit(id, 0);
  ASSERT_TRUE(put(unit).ok());
  StoreOptions other = default_options();
  other.fingerprint = "model B";
  open(other);
  EXPECT_FALSE(store().contains(unit.key));
  EXPECT_EQ(read(unit), std::vector(2, ReadOutcome::Absent));
  TestUnit remade = make_unit(id, 1);
  remade.key = unit.key;
  remade.number = unit.number;
  ASSERT_TRUE(put(remade).ok());
  EXPECT_TRUE(reads_back(remade));
  EXPECT_EQ(store().stats().units, 1);
  EXPECT_EQ(store().stats().corrupt_parts, 0);
  open();
  EXPECT_FALSE(store().contains(unit.key));
  EXPECT_EQ(rows("payload"), 2u);
}

TEST_F(UnitStoreTest, ReadersWritersAndRemovalTogether) {
  const SessionId kept = create("kept"), passing = create("passing");
  std::vector<TestUnit> units;
  for (int i = 0; i < 40; ++i) units.push_back(make_unit(kept, i, {2000, 100}));
  std::atomic<int> done = 0;
  std::vector<std::thread> threads;
  for (const SessionId owner : {kept, passing})
    threads.emplace_back([&, owner] {
      for (const auto& unit : units) EXPECT_TRUE(put(unit.owned_by(owner)).ok());
      ++done;
    });
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      do {
        for (const auto& unit : units)
          for (const ReadOutcome outcome : read(unit)) EXPECT_NE(outcome, ReadOutcome::Corrupt);
      } while (done < 2);
    });
  threads.emplace_back([&] { EXPECT_TRUE(store().flush().ok()); });
  for (auto& thread : threads) thread.join();
  threads.clear();
  threads.emplace_back([&] { EXPECT_TRUE(store().remove(passing).ok()); });
  threads.emplace_back([&] {
    for (const auto& unit : units) EXPECT_TRUE(reads_back(unit));
  });
  for (auto& thread : threads) thread.join();
  for (const auto& unit : units) EXPECT_TRUE(reads_back(unit));
  EXPECT_EQ(store().stats().units, 40);
}

TEST_F(UnitStoreTest, ReadingWhileItsOwnerIsRemovedIsNeverCorrupt) {
  for (int round = 0; round < 10; ++round) {
    const SessionId id = create("a");
    std::vector<TestUnit> units;
    for (int i = 0; i < 20; ++i) {
      units.push_back(make_unit(id, i));
      ASSERT_TRUE(put(units.back()).ok());
    }
    std::thread reader([&] {
      for (const auto& unit : units)
        for (const ReadOutcome outcome : read(unit)) EXPECT_NE(outcome, ReadOutcome::Corrupt);
    });
    EXPECT_TRUE(store().remove(id).ok());
    reader.join();
  }
  EXPECT_EQ(store().stats().corrupt_parts, 0);
}

}  // namespace
}  // namespace ringtide::storage
