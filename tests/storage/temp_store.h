// A store in a directory of its own, for tests: opened, closed, opened again, and looked into with
// the database itself.
#pragma once

#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "storage/store.h"

namespace ringtide::storage {

class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "storage_XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The bytes of a unit's parts, and the write that stores them.
struct TestUnit {
  SessionId owner = 0;
  ContentKey key;
  int64_t number = 0;
  std::vector<std::vector<std::byte>> parts;

  UnitWrite write() && = delete;  // points into the unit
  UnitWrite write() const& {
    UnitWrite write{.owner = owner, .key = key, .number = number, .parts = {}};
    for (const auto& part : parts) write.parts.emplace_back(part);
    return write;
  }
  TestUnit owned_by(SessionId id) const {
    TestUnit copy = *this;
    copy.owner = id;
    return copy;
  }
};

inline TestUnit make_unit(SessionId owner, int64_t number, std::vector<size_t> sizes = {4000, 70}) {
  TestUnit unit{.owner = owner, .key = {0x1111, uint64_t(number)}, .number = number, .parts = {}};
  uint64_t state = 12345 + uint64_t(number);
  for (const size_t size : sizes) {
    auto& part = unit.parts.emplace_back(size);
    for (auto& byte : part) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      byte = std::byte(state >> 56);
    }
  }
  return unit;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override { open(); }

  // Closes what is open first.
  void open(StoreOptions options = default_options()) { open_at(path(), std::move(options)); }
  void open_at(const std::string& path, StoreOptions options = default_options()) {
    store_.reset();
    auto opened = Store::open(path, options);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    store_ = std::move(opened.value());
  }
  void close() { store_.reset(); }
  static StoreOptions default_options() {
    StoreOptions options;
    options.fingerprint = "model A";
    return options;
  }
  const std::string& path() const { return directory_.path(); }
  Store& store() { return *store_; }

  SessionId create(const std::string& name) {
    auto entry = store_->create(
        name, Opened{.policy = {}, .model = "m", .template_family = "raw", .system = "be brief"});
    EXPECT_TRUE(entry.ok()) << entry.status().message();
    return entry.ok() ? entry.value().id : 0;
  }
  Status append(SessionId id, uint64_t sequence, LogRecord record) {
    const LogWrite write{.session = id, .sequence = sequence, .record = std::move(record)};
    return store_->append({&write, 1});
  }
  Status put(const TestUnit& unit) {
    const UnitWrite write = unit.write();
    return store_->put({&write, 1});
  }
  // One outcome a part; Ok only if the bytes are those of the unit.
  std::vector<ReadOutcome> read(const TestUnit& unit) {
    std::vector<std::vector<std::byte>> into;
    std::vector<PartRead> reads;
    for (const auto& part : unit.parts) into.emplace_back(part.size());
    for (uint32_t i = 0; i < unit.parts.size(); ++i)
      reads.push_back({.key = unit.key, .part = i, .into = into[i]});
    store_->read(reads);
    std::vector<ReadOutcome> outcomes;
    for (size_t i = 0; i < reads.size(); ++i) {
      outcomes.push_back(reads[i].outcome);
      if (reads[i].outcome == ReadOutcome::Ok) {
        EXPECT_EQ(into[i], unit.parts[i]) << "wrong bytes were returned";
      }
    }
    return outcomes;
  }
  bool reads_back(const TestUnit& unit) {
    const auto outcomes = read(unit);
    return std::all_of(outcomes.begin(), outcomes.end(),
                       [](ReadOutcome outcome) { return outcome == ReadOutcome::Ok; });
  }
  std::vector<LogRecord> replayed(SessionId id, Status* status = nullptr) {
    std::vector<LogRecord> records;
    const Status end = store_->replay(id, [&](uint64_t sequence, LogRecord&& record) {
      EXPECT_EQ(sequence, records.size());
      records.push_back(std::move(record));
      return true;
    });
    if (status != nullptr)
      *status = end;
    else
      EXPECT_TRUE(end.ok()) << end.message();
    return records;
  }

  // Closes the store and opens one of its databases ("sessions" or "units") directly.
  void with_database(
      const std::string& name,
      const std::function<void(rocksdb::DB&, std::span<rocksdb::ColumnFamilyHandle* const>)>&
          edit) {
    close();
    rocksdb::DBOptions options;
    options.atomic_flush = true;
    const std::string database = path() + "/" + name;
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies(options, database, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const auto& family : names) families.emplace_back(family, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(options, database, families, &handles, &db);
    ASSERT_TRUE(status.ok()) << status.ToString();
    edit(*db, handles);
    for (auto* handle : handles) ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    ASSERT_TRUE(db->Close().ok());
    delete db;
  }

 private:
  TempDirectory directory_;
  std::unique_ptr<Store> store_;
};

}  // namespace ringtide::storage
