// A store on a small file system that is filled up and emptied again.
#include <sys/mount.h>

#include <cstring>
#include <fstream>

#include "tests/storage/temp_store.h"

namespace ringtide::storage {
namespace {

class FullDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::mount("none", disk().c_str(), "tmpfs", 0, "size=128m") != 0)
      GTEST_SKIP() << "mounting a file system is not permitted here: " << std::strerror(errno);
    mounted_ = true;
    reopen();
  }
  void TearDown() override {
    store_.reset();
    EXPECT_TRUE(!mounted_ || ::umount(disk().c_str()) == 0);
  }

  void reopen() {
    store_.reset();
    auto opened = Store::open(disk() + "/store", {});
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    store_ = std::move(opened.value());
  }
  const std::string& disk() const { return directory_.path(); }
  void fill(size_t spare = 0) {
    const std::string path = disk() + "/ballast";
    std::ofstream ballast(path, std::ios::binary);
    const std::string block(4096, 'x');
    while (ballast.write(block.data(), std::streamsize(block.size())).flush()) continue;
    ballast.close();
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - spare);
  }
  void free() { std::filesystem::remove(disk() + "/ballast"); }
  Status append(SessionId id, uint64_t sequence, size_t bytes) {
    const LogWrite write{.session = id,
                         .sequence = sequence,
                         .record = Appended{.text = std::string(bytes, 'a'), .tokens = {}}};
    return store_->append({&write, 1});
  }
  uint64_t records(SessionId id) {
    uint64_t count = 0;
    const Status status = store_->replay(id, [&](uint64_t, LogRecord&&) { return ++count > 0; });
    EXPECT_TRUE(status.ok()) << status.message();
    return count;
  }

  std::unique_ptr<Store> store_;

 private:
  TempDirectory directory_;
  bool mounted_ = false;
};

TEST_F(FullDiskTest, LogRefusesKeepsWhatItHasAndGoesOn) {
  const SessionId id = store_->create("a", {}).value().id;
  ASSERT_TRUE(append(id, 1, 1000).ok());
  fill();
  uint64_t next = 2;
  Status status;
  while ((status = append(id, next, 64 << 10)).ok()) ++next;
  EXPECT_EQ(status.code(), Code::NoSpace) << status.message();
  EXPECT_NE(status.message().find("its disk is full"), std::string::npos) << status.message();
  EXPECT_EQ(status.message().find("IO error"), std::string::npos) << status.message();
  EXPECT_EQ(append(id, next, 64 << 10).code(), Code::NoSpace);
  std::vector<LogWrite> group;
  for (uint64_t i = next; i < next + 3; ++i)
    group.push_back({.session = id, .sequence = i, .record = Generated{.tokens = {1}}});
  EXPECT_EQ(store_->append(group).code(), Code::NoSpace);
  EXPECT_EQ(store_->remove(id).code(), Code::NoSpace);
  EXPECT_EQ(records(id), next) << "reading must go on while the disk is full";
  free();
  status = append(id, next, 64 << 10);
  ASSERT_TRUE(status.ok()) << status.message();
  ++next;
  EXPECT_EQ(records(id), next);
  reopen();
  EXPECT_EQ(records(id), next) << "what failed must not come back behind what was written since";
  EXPECT_TRUE(store_->find("a").ok());
}

TEST_F(FullDiskTest, UnitsRefuseWhileTheLogGoesOn) {
  const SessionId id = store_->create("a", {}).value().id;
  const TestUnit small = make_unit(id, 0);
  const UnitWrite write = small.write();
  ASSERT_TRUE(store_->put({&write, 1}).ok());
  ASSERT_TRUE(store_->flush().ok());
  const TestUnit large = make_unit(id, 1, {8 << 20, 8 << 20, 8 << 20, 8 << 20, 8 << 20, 8 << 20});
  const UnitWrite too_large = large.write();
  ASSERT_TRUE(store_->put({&too_large, 1}).ok());  // in memory
  fill(4 << 20);
  const Status full = store_->flush();
  EXPECT_EQ(full.code(), Code::NoSpace) << full.message();
  EXPECT_TRUE(store_->contains(small.key));
  std::vector<std::byte> into(small.parts[0].size());
  PartRead read{.key = small.key, .part = 0, .into = into};
  store_->read({&read, 1});
  EXPECT_EQ(read.outcome, ReadOutcome::Ok);
  EXPECT_TRUE(append(id, 1, 100).ok()) << "the log does not depend on the units";
  EXPECT_EQ(records(id), 2u);
}

TEST_F(FullDiskTest, UnitsGoOnWhenThereIsRoom) {
  const SessionId id = store_->create("a", {}).value().id;
  fill();
  const TestUnit unit = make_unit(id, 0, {1 << 20});
  const UnitWrite write = unit.write();
  EXPECT_EQ(store_->put({&write, 1}).code(), Code::NoSpace);
  EXPECT_EQ(store_->flush().code(), Code::NoSpace);
  EXPECT_EQ(store_->stats().units, 0);
  free();
  const Status again = store_->put({&write, 1});
  ASSERT_TRUE(again.ok()) << again.message();
  EXPECT_TRUE(store_->flush().ok());
  EXPECT_EQ(store_->stats().units, 1);
  reopen();
  EXPECT_TRUE(store_->contains(unit.key));
}

}  // namespace
}  // namespace ringtide::storage
