// Rows changed behind the store's back: flipped, cut, swapped, deleted.
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "storage/keys.h"
#include "storage/rows.h"
#include "tests/storage/temp_store.h"

namespace ringtide::storage {
namespace {

constexpr size_t kIndex = 0, kPayload = 1;

class DamageTest : public StoreTest {
 protected:
  using Edit = std::function<void(std::string&)>;

  void edit(const std::string& database, size_t family, const std::string& key,
            const Edit& change) {
    with_database(database, [&](rocksdb::DB& db, auto families) {
      std::string value;
      ASSERT_TRUE(db.Get({}, families[family], key, &value).ok());
      change(value);
      ASSERT_TRUE(db.Put({}, families[family], key, value).ok());
    });
  }
  void erase(const std::string& database, size_t family, const std::string& key) {
    with_database(database, [&](rocksdb::DB& db, auto families) {
      ASSERT_TRUE(db.Delete({}, families[family], key).ok());
    });
  }
  // The unit was dropped with all its rows, and putting it again makes it whole.
  void expect_dropped_and_put_again(const TestUnit& unit, int64_t corrupt) {
    EXPECT_EQ(store().stats().corrupt_parts, corrupt);
    EXPECT_FALSE(store().contains(unit.key));
    EXPECT_EQ(read(unit), std::vector(unit.parts.size(), ReadOutcome::Absent));
    EXPECT_EQ(store().size(unit.owner).value().units, 0);
    EXPECT_EQ(store().stats().units, 0);
    ASSERT_TRUE(put(unit).ok());
    EXPECT_TRUE(reads_back(unit));
    open();
    EXPECT_TRUE(reads_back(unit));
    EXPECT_EQ(store().stats().units, 1);
  }
};

TEST_F(DamageTest, EveryFlippedByteOfAPartIsCorrupt) {
  const TestUnit unit = make_unit(create("a"), 0, {40});
  for (size_t at = 0; at < 40 + 8; ++at) {
    ASSERT_TRUE(put(unit).ok());
    open();
    std::string part_key;
    with_database("units", [&](rocksdb::DB& db, auto families) {
      const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}, families[kPayload]));
      it->SeekToFirst();
      ASSERT_TRUE(it->Valid());
      part_key = it->key().ToString();
    });
    edit("units", kPayload, part_key, [&](std::string& value) { value[at] ^= 0x10; });
    open();
    EXPECT_EQ(read(unit)[0], ReadOutcome::Corrupt) << at;
    EXPECT_FALSE(store().contains(unit.key)) << at;
  }
}

TEST_F(DamageTest, FlippedPartIsDroppedAndPutAgain) {
  const TestUnit unit = make_unit(create("a"), 0);
  ASSERT_TRUE(put(unit).ok());
  edit("units", kPayload, keys::part(1, 1), [](std::string& value) { value[7] ^= 1; });
  open();
  EXPECT_EQ(read(unit), (std::vector{ReadOutcome::Ok, ReadOutcome::Corrupt}));
  expect_dropped_and_put_again(unit, 1);
}

TEST_F(DamageTest, TruncatedPart) {
  for (const size_t left : {0, 5, 8, 77}) {
    SCOPED_TRACE(left);
    open();
    const TestUnit unit = make_unit(create("a" + std::to_string(left)), 0);
    ASSERT_TRUE(put(unit).ok());
    with_database("units", [&](rocksdb::DB& db, auto families) {
      const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}, families[kPayload]));
      it->SeekToLast();  // 70 bytes and their checksum
      ASSERT_EQ(it->value().size(), 78u);
      const std::string value = it->value().ToString().substr(0, left);
      ASSERT_TRUE(db.Put({}, families[kPayload], it->key(), value).ok());
    });
    open();
    EXPECT_EQ(read(unit), (std::vector{ReadOutcome::Ok, ReadOutcome::Corrupt}));
    expect_dropped_and_put_again(unit, 1);
    ASSERT_TRUE(store().remove(unit.owner).ok());
  }
}

TEST_F(DamageTest, DeletedPayloadWithItsIndexRowLeft) {
  const TestUnit unit = make_unit(create("a"), 0);
  ASSERT_TRUE(put(unit).ok());
  erase("units", kPayload, keys::part(1, 0));
  open();
  EXPECT_TRUE(store().contains(unit.key));
  EXPECT_EQ(read(unit), (std::vector{ReadOutcome::Corrupt, ReadOutcome::Ok}));
  expect_dropped_and_put_again(unit, 1);
}

TEST_F(DamageTest, SwappedPartsNeverVerify) {
  const SessionId id = create("a");
  const TestUnit first = make_unit(id, 0, {64, 64}), second = make_unit(id, 1, {64, 64});
  ASSERT_TRUE(put(first).ok());
  ASSERT_TRUE(put(second).ok());
  with_database("units", [](rocksdb::DB& db, auto families) {
    const auto swap = [&](const std::string& a, const std::string& b) {
      std::string at_a, at_b;
      ASSERT_TRUE(db.Get({}, families[kPayload], a, &at_a).ok());
      ASSERT_TRUE(db.Get({}, families[kPayload], b, &at_b).ok());
      ASSERT_TRUE(db.Put({}, families[kPayload], a, at_b).ok());
      ASSERT_TRUE(db.Put({}, families[kPayload], b, at_a).ok());
    };
    swap(keys::part(1, 0), keys::part(2, 0));  // between units, same part and size
  });
  open();
  EXPECT_EQ(read(first), (std::vector{ReadOutcome::Corrupt, ReadOutcome::Ok}));
  EXPECT_EQ(read(second), (std::vector{ReadOutcome::Corrupt, ReadOutcome::Ok}));
  ASSERT_TRUE(put(first).ok());
  with_database("units", [](rocksdb::DB& db, auto families) {
    std::string a, b;
    ASSERT_TRUE(db.Get({}, families[kPayload], keys::part(3, 0), &a).ok());
    ASSERT_TRUE(db.Get({}, families[kPayload], keys::part(3, 1), &b).ok());
    ASSERT_TRUE(db.Put({}, families[kPayload], keys::part(3, 0), b).ok());
    ASSERT_TRUE(db.Put({}, families[kPayload], keys::part(3, 1), a).ok());
  });
  open();
  EXPECT_EQ(read(first), std::vector(2, ReadOutcome::Corrupt));
}

TEST_F(DamageTest, PartOfAnotherSizeOrNumberIsCorrupt) {
  const TestUnit unit = make_unit(create("a"), 0);
  ASSERT_TRUE(put(unit).ok());
  std::vector<std::byte> into(71);
  PartRead read{.key = unit.key, .part = 1, .into = into};
  store().read({&read, 1});
  EXPECT_EQ(read.outcome, ReadOutcome::Corrupt);
  EXPECT_FALSE(store().contains(unit.key));
  ASSERT_TRUE(put(unit).ok());
  read.part = 2;
  store().read({&read, 1});
  EXPECT_EQ(read.outcome, ReadOutcome::Corrupt);
  expect_dropped_and_put_again(unit, 2);
}

TEST_F(DamageTest, DamagedIndexRowLosesItsUnitOnly) {
  const SessionId id = create("a");
  const TestUnit first = make_unit(id, 0), second = make_unit(id, 1);
  ASSERT_TRUE(put(first).ok());
  ASSERT_TRUE(put(second).ok());
  for (size_t at = 0; at < 44; ++at) {
    edit("units", kIndex, keys::unit(first.key), [&](std::string& value) {
      ASSERT_EQ(value.size(), 44u);
      value[at] ^= 4;
    });
    open();
    EXPECT_FALSE(store().contains(first.key)) << at;
    EXPECT_TRUE(reads_back(second)) << at;
    EXPECT_EQ(store().size(id).value().units, 1);
    ASSERT_TRUE(put(first).ok());
    EXPECT_TRUE(reads_back(first)) << at;
  }
  ASSERT_TRUE(store().remove(id).ok());
  with_database("units", [](rocksdb::DB& db, auto families) {
    const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}, families[kPayload]));
    it->SeekToFirst();
    EXPECT_FALSE(it->Valid()) << "payload of a damaged row was left";
  });
}

TEST_F(DamageTest, EveryFlippedByteOfALogRowIsFoundAndNamed) {
  const SessionId id = create("a");
  for (uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(append(id, i, Generated{.tokens = {1}}).ok());
  const std::string key = keys::log(id, 2);
  const size_t size = encode(Generated{.tokens = {1}}).size() + 16;
  for (size_t at = 0; at < size; ++at) {
    edit("sessions", 0, key, [&](std::string& value) {
      ASSERT_EQ(value.size(), size);
      value[at] ^= 1;
    });
    open();
    Status status;
    EXPECT_EQ(replayed(id, &status).size(), 2u);
    EXPECT_EQ(status.code(), Code::Corrupt) << at;
    EXPECT_NE(status.message().find("record 2"), std::string::npos) << status.message();
    edit("sessions", 0, key, [&](std::string& value) { value[at] ^= 1; });
  }
  open();
  EXPECT_EQ(replayed(id).size(), 4u);
}

TEST_F(DamageTest, MissingAndSwappedLogRowsAreFound) {
  const SessionId id = create("a");
  for (uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(append(id, i, Generated{.tokens = {int32_t(i)}}).ok());
  with_database("sessions", [&](rocksdb::DB& db, auto) {
    std::string value;
    ASSERT_TRUE(db.Get({}, keys::log(id, 4), &value).ok());
    ASSERT_TRUE(db.Put({}, keys::log(id, 3), value).ok());
  });
  open();
  Status status;
  EXPECT_EQ(replayed(id, &status).size(), 3u);
  EXPECT_EQ(status.code(), Code::Corrupt);
  erase("sessions", 0, keys::log(id, 1));
  open();
  EXPECT_EQ(replayed(id, &status).size(), 1u);
  EXPECT_EQ(status.code(), Code::Corrupt);
  erase("sessions", 0, keys::log(id, 0));
  open();
  EXPECT_EQ(replayed(id, &status).size(), 0u);
  EXPECT_EQ(status.code(), Code::Corrupt);
}

TEST_F(DamageTest, TotalsThatAreDamagedOrOutOfDateAreCountedAgain) {
  const SessionId id = create("a");
  ASSERT_TRUE(append(id, 1, Appended{.text = "text", .consumed = 4, .tokens = {1, 2}}).ok());
  ASSERT_TRUE(append(id, 2, Generated{.tokens = {3}}).ok());
  const auto expect_size = [&](int64_t tokens, int64_t text) {
    const auto size = store().size(id);
    ASSERT_TRUE(size.ok()) << size.status().message();
    EXPECT_EQ(size.value().tokens, tokens);
    EXPECT_EQ(size.value().text_bytes, text);
  };
  expect_size(3, 4);
  const std::string key = keys::totals(id);
  for (const bool absent : {false, true}) {
    if (absent)
      erase("sessions", 0, key);
    else
      edit("sessions", 0, key, [](std::string& value) { value[9] ^= 1; });
    open();
    expect_size(3, 4);
  }
  // As a build that knows no totals leaves them behind.
  std::string old;
  ASSERT_TRUE(append(id, 3, Generated{.tokens = {4}}).ok());
  with_database("sessions",
                [&](rocksdb::DB& db, auto) { ASSERT_TRUE(db.Get({}, key, &old).ok()); });
  open();
  ASSERT_TRUE(append(id, 4, Generated{.tokens = {5, 6}}).ok());
  with_database("sessions", [&](rocksdb::DB& db, auto) { ASSERT_TRUE(db.Put({}, key, old).ok()); });
  open();
  expect_size(6, 4);
  ASSERT_TRUE(append(id, 5, Ended{.reason = 0, .tokens = {7}}).ok());
  // Now they are known without the log, which is damaged where the size does not look.
  edit("sessions", 0, keys::log(id, 2), [](std::string& value) { value[9] ^= 1; });
  open();
  expect_size(7, 4);
  ASSERT_TRUE(store().remove(id).ok());
  with_database("sessions",
                [&](rocksdb::DB& db, auto) { EXPECT_TRUE(db.Get({}, key, &old).IsNotFound()); });
  open();
}

TEST_F(DamageTest, LogWithADamagedEndIsNotContinued) {
  const SessionId id = create("a");
  ASSERT_TRUE(append(id, 1, Generated{.tokens = {1}}).ok());
  edit("sessions", 0, keys::log(id, 1), [](std::string& value) { value.back() ^= 1; });
  open();
  EXPECT_EQ(append(id, 2, Generated{}).code(), Code::Corrupt);
  EXPECT_TRUE(store().remove(id).ok());
}

TEST_F(DamageTest, SessionWithADamagedEntryKeepsItsLog) {
  const SessionId id = create("a"), other = create("b");
  edit("sessions", 0, keys::session(id), [](std::string& value) { value[9] ^= 1; });
  open();
  EXPECT_EQ(store().find(id).status().code(), Code::Corrupt);
  EXPECT_EQ(store().find("a").status().code(), Code::NotFound);
  EXPECT_EQ(store().list().value().size(), 1u);
  EXPECT_EQ(replayed(id).size(), 1u);
  EXPECT_EQ(replayed(other).size(), 1u);
  EXPECT_TRUE(store().remove(id).ok());
  open();
  EXPECT_EQ(store().find(id).status().code(), Code::NotFound);
}

TEST_F(DamageTest, RemovalThatACrashCutShortIsFinishedAtOpen) {
  const SessionId id = create("a"), other = create("b");
  const TestUnit shared = make_unit(id, 0), own = make_unit(id, 1);
  ASSERT_TRUE(put(shared).ok());
  ASSERT_TRUE(put(own).ok());
  ASSERT_TRUE(put(shared.owned_by(other)).ok());
  with_database("sessions", [&](rocksdb::DB& db, auto) {
    ASSERT_TRUE(db.Delete({}, keys::session(id)).ok());
    ASSERT_TRUE(db.Put({}, keys::doomed(id), pack_number(keys::doomed(id), id)).ok());
  });
  open();
  EXPECT_EQ(store().find("a").status().code(), Code::NotFound);
  EXPECT_FALSE(store().contains(own.key));
  EXPECT_TRUE(reads_back(shared));
  with_database("sessions", [&](rocksdb::DB& db, auto) {
    std::string value;
    EXPECT_TRUE(db.Get({}, keys::doomed(id), &value).IsNotFound());
    EXPECT_TRUE(db.Get({}, keys::log(id, 0), &value).IsNotFound());
  });
}

TEST_F(DamageTest, LostUnitsAreAbsentAndSessionsGoOn) {
  const SessionId id = create("a");
  const TestUnit unit = make_unit(id, 0);
  ASSERT_TRUE(put(unit).ok());
  close();
  std::filesystem::remove_all(path() + "/units");
  open();
  EXPECT_EQ(read(unit)[0], ReadOutcome::Absent);
  EXPECT_EQ(replayed(id).size(), 1u);
  ASSERT_TRUE(put(unit).ok());
  EXPECT_TRUE(reads_back(unit));
}

TEST_F(DamageTest, AnUnreadableDatabaseOfUnitsIsSetAside) {
  const SessionId id = create("a");
  const TestUnit unit = make_unit(id, 0);
  ASSERT_TRUE(put(unit).ok());
  close();
  for (const auto& entry : std::filesystem::directory_iterator(path() + "/units")) {
    if (!entry.path().filename().string().starts_with("MANIFEST")) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file << std::string(64, '!');
  }
  open();
  EXPECT_TRUE(std::filesystem::exists(store().stats().set_aside));
  EXPECT_TRUE(store().find(id).ok());
  EXPECT_FALSE(store().contains(unit.key));
  ASSERT_TRUE(put(unit).ok());
  EXPECT_TRUE(reads_back(unit));
  open();
  EXPECT_EQ(store().stats().set_aside, "");
}

// The database's log with what is in no table yet.
std::filesystem::path log_in(const std::string& database) {
  for (const auto& entry : std::filesystem::directory_iterator(database))
    if (entry.path().extension() == ".log" && entry.file_size() > 2000) return entry.path();
  return {};
}

void damage_the_middle(const std::filesystem::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(std::filesystem::file_size(path) / 2));
  file.put('!');
}

// The log of units is not synced: whatever a power cut has left of it, the first ones are there.
TEST_F(DamageTest, ADamagedLogOfUnitsLosesTheLatestOnly) {
  std::vector<TestUnit> put_in_order;
  const SessionId id = create("a");
  for (int64_t i = 0; i < 10; ++i)
    ASSERT_TRUE(put(put_in_order.emplace_back(make_unit(id, i))).ok());
  TempDirectory damaged, cut;
  for (const TempDirectory* copy : {&damaged, &cut})
    std::filesystem::copy(path(), copy->path(), std::filesystem::copy_options::recursive);
  const auto log = log_in(cut.path() + "/units");
  ASSERT_FALSE(log.empty());
  damage_the_middle(log_in(damaged.path() + "/units"));
  std::filesystem::resize_file(log, std::filesystem::file_size(log) - 100);

  for (const TempDirectory* copy : {&damaged, &cut}) {
    open_at(copy->path());
    EXPECT_EQ(store().stats().set_aside, "");
    EXPECT_TRUE(reads_back(put_in_order[0]));
    EXPECT_EQ(read(put_in_order[9])[0], ReadOutcome::Absent);
    EXPECT_EQ(reads_back(put_in_order[8]), copy == &cut);
    for (const TestUnit& unit : put_in_order) ASSERT_TRUE(put(unit).ok());
    EXPECT_TRUE(std::ranges::all_of(put_in_order, [&](const auto& u) { return reads_back(u); }));
    close();
  }
}

// A copy of the store as a crash would leave it: the session log is in the database's log only.
class CrashedLogTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    const auto made = store().create("a", Opened{});
    ASSERT_TRUE(made.ok());
    id_ = made.value().id;
    for (uint64_t i = 1; i <= 20; ++i) {
      const LogWrite write{id_, i, Appended{.text = std::string(200, 'x'), .tokens = {}}};
      ASSERT_TRUE(store().append({&write, 1}).ok());
    }
    std::filesystem::copy(path(), copy_.path(), std::filesystem::copy_options::recursive);
    log_ = log_in(copy_.path() + "/sessions");
    ASSERT_FALSE(log_.empty());
  }
  Result<std::unique_ptr<Store>> open_copy(bool accept_loss) {
    StoreOptions options = default_options();
    options.accept_loss = accept_loss;
    return Store::open(copy_.path(), options);
  }
  size_t records(Store& store) {
    size_t n = 0;
    EXPECT_TRUE(store.replay(id_, [&](uint64_t, LogRecord&&) { return ++n, true; }).ok());
    return n;
  }

  TempDirectory copy_;
  std::filesystem::path log_;
  SessionId id_ = 0;
};

TEST_F(CrashedLogTest, DamageInTheMiddleIsRefusedAndLostOnlyOnRequest) {
  damage_the_middle(log_);
  auto refused = open_copy(false);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::Corrupt);
  EXPECT_NE(refused.status().message().find("--accept-loss"), std::string::npos);
  auto opened = open_copy(true);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  const size_t kept = records(*opened.value());
  EXPECT_GT(kept, 5u);
  EXPECT_LT(kept, 21u);
}

TEST_F(CrashedLogTest, HalfAWriteAtTheEndIsNotDamage) {
  std::filesystem::resize_file(log_, std::filesystem::file_size(log_) - 100);
  auto opened = open_copy(false);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_EQ(records(*opened.value()), 20u);
}

TEST_F(CrashedLogTest, ClosedInOrderNothingIsInTheLog) {
  close();
  for (const auto& entry : std::filesystem::directory_iterator(path() + "/sessions")) {
    if (entry.path().extension() == ".log") {
      EXPECT_EQ(entry.file_size(), 0u);
    }
  }
}

}  // namespace
}  // namespace ringtide::storage
