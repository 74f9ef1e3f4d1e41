#include <sys/mount.h>

#include <cstring>
#include <fstream>

#include "storage/keys.h"
#include "storage/rows.h"
#include "tests/storage/temp_store.h"

namespace ringtide::storage {
namespace {

class StoreOpenTest : public StoreTest {
 protected:
  Status open_status(StoreOptions options = default_options()) {
    return Store::open(path(), options).status();
  }
  StoreOptions read_only() const {
    StoreOptions options = default_options();
    options.read_only = true;
    return options;
  }
  void write_meta(const std::string& key, const std::string& value) {
    with_database("sessions",
                  [&](rocksdb::DB& db, auto) { ASSERT_TRUE(db.Put({}, key, value).ok()); });
  }
};

TEST_F(StoreOpenTest, AnotherHolderIsNamed) {
  const Status status = open_status();
  EXPECT_EQ(status.code(), Code::Busy);
  EXPECT_NE(status.message().find(path()), std::string::npos) << status.message();
  EXPECT_EQ(status.message().find("IO error"), std::string::npos) << status.message();
}

TEST_F(StoreOpenTest, MissingStoreIsNotMadeUnasked) {
  StoreOptions options = default_options();
  options.create = false;
  const std::string missing = path() + "/none";
  EXPECT_EQ(Store::open(missing, options).status().code(), Code::NotFound);
  EXPECT_EQ(Store::open(missing, read_only()).status().code(), Code::NotFound);
  EXPECT_FALSE(std::filesystem::exists(missing));
  open(options);
}

TEST_F(StoreOpenTest, LaterFormatIsRefusedWithBothVersions) {
  write_meta(keys::format(), pack_number(keys::format(), kFormatVersion + 6));
  const Status status = open_status();
  EXPECT_EQ(status.code(), Code::Newer);
  EXPECT_NE(status.message().find("version 7"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("up to 1"), std::string::npos) << status.message();
  EXPECT_EQ(open_status(read_only()).code(), Code::Newer);
}

TEST_F(StoreOpenTest, UnknownTablesAreOfALaterFormat) {
  with_database("sessions", [](rocksdb::DB& db, auto) {
    rocksdb::ColumnFamilyHandle* added = nullptr;
    ASSERT_TRUE(db.CreateColumnFamily({}, "later", &added).ok());
    ASSERT_TRUE(db.DestroyColumnFamilyHandle(added).ok());
  });
  EXPECT_EQ(open_status().code(), Code::Newer);
}

TEST_F(StoreOpenTest, DamagedMetaRowsAreCorrupt) {
  write_meta(keys::format(), "nonsense");
  EXPECT_EQ(open_status().code(), Code::Corrupt);
  write_meta(keys::format(), pack_number(keys::format(), 0));
  EXPECT_EQ(open_status().code(), Code::Corrupt);
  write_meta(keys::format(), pack_number(keys::format(), kFormatVersion));
  write_meta(keys::next_session(), std::string(16, '\0'));
  EXPECT_EQ(open_status().code(), Code::Corrupt);
  with_database("sessions",
                [](rocksdb::DB& db, auto) { ASSERT_TRUE(db.Delete({}, keys::format()).ok()); });
  EXPECT_EQ(open_status().code(), Code::Corrupt);
}

TEST_F(StoreOpenTest, ReadOnlyReadsBesideAWriterAndRefusesWrites) {
  const SessionId id = create("a");
  const TestUnit unit = make_unit(id, 0);
  ASSERT_TRUE(put(unit).ok());
  ASSERT_TRUE(store().flush().ok());
  auto opened = Store::open(path(), read_only());
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  Store& reader = *opened.value();
  EXPECT_EQ(reader.find("a").value().id, id);
  EXPECT_TRUE(reader.contains(unit.key));
  std::vector<std::byte> into(unit.parts[0].size());
  PartRead read{.key = unit.key, .part = 0, .into = into};
  reader.read({&read, 1});
  EXPECT_EQ(read.outcome, ReadOutcome::Ok);
  int records = 0;
  EXPECT_TRUE(reader.replay(id, [&](uint64_t, LogRecord&&) { return ++records > 0; }).ok());
  EXPECT_EQ(records, 1);

  const LogWrite log{.session = id, .sequence = 1, .record = Generated{}};
  const TestUnit another = make_unit(id, 1);
  const UnitWrite write = another.write();
  EXPECT_EQ(reader.create("b", {}).status().code(), Code::ReadOnly);
  EXPECT_EQ(reader.append({&log, 1}).code(), Code::ReadOnly);
  EXPECT_EQ(reader.put({&write, 1}).code(), Code::ReadOnly);
  EXPECT_EQ(reader.remove(id).code(), Code::ReadOnly);
  EXPECT_EQ(reader.flush().code(), Code::ReadOnly);
  EXPECT_EQ(replayed(id).size(), 1u);
}

TEST_F(StoreOpenTest, ReadOnlyFileSystemIsSaid) {
  const SessionId id = create("a");
  close();
  const std::string mounted = path() + "/mounted";
  std::filesystem::create_directory(mounted);
  if (::mount("none", mounted.c_str(), "tmpfs", 0, "size=64m") != 0)
    GTEST_SKIP() << "mounting a file system is not permitted here: " << std::strerror(errno);
  std::filesystem::copy(path() + "/sessions", mounted + "/sessions");
  std::filesystem::copy(path() + "/units", mounted + "/units");
  ASSERT_EQ(::mount("none", mounted.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=64m"), 0);
  const Status writing = Store::open(mounted, default_options()).status();
  EXPECT_EQ(writing.code(), Code::ReadOnly) << writing.message();
  EXPECT_EQ(writing.message().find("IO error"), std::string::npos) << writing.message();
  const Status making = Store::open(mounted + "/new", default_options()).status();
  EXPECT_EQ(making.code(), Code::ReadOnly) << making.message();
  {
    auto reading = Store::open(mounted, read_only());
    EXPECT_TRUE(reading.ok()) << reading.status().message();
    EXPECT_TRUE(reading.ok() && reading.value()->find(id).ok());
  }
  EXPECT_EQ(::umount(mounted.c_str()), 0);
}

TEST_F(StoreOpenTest, AFileInThePlaceOfTheStoreIsAnError) {
  const std::string file = path() + "/file";
  std::ofstream(file) << "not a store";
  const Status status = Store::open(file, default_options()).status();
  EXPECT_EQ(status.code(), Code::Failed);
  EXPECT_NE(status.message().find(file), std::string::npos);
}

}  // namespace
}  // namespace ringtide::storage
