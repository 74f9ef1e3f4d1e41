// A write whose bytes reach the file, and whose sync fails: whether it happened nobody knows.
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "tests/storage/temp_store.h"

namespace {
std::atomic<bool> next_sync_fails{false};
}  // namespace

// In place of the system's, for every library of this program.
extern "C" int fdatasync(int file) {
  if (next_sync_fails.exchange(false)) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fdatasync, file));
}

namespace ringtide::storage {
namespace {

class UnsyncedWriteTest : public StoreTest {};

TEST_F(UnsyncedWriteTest, WhatWasRefusedIsNotReplayedAndTheLogGoesOn) {
  const SessionId a = create("a"), b = create("b");
  ASSERT_TRUE(append(a, 1, Generated{{1}}).ok());
  next_sync_fails = true;
  ASSERT_FALSE(append(a, 2, Generated{{2}}).ok());
  ASSERT_FALSE(next_sync_fails);
  // The database is opened again by another session's write, and finds the record.
  ASSERT_TRUE(append(b, 1, Generated{{1}}).ok());
  EXPECT_EQ(replayed(a).size(), 2u);
  ASSERT_TRUE(append(a, 2, Generated{{3}}).ok());
  const auto live = replayed(a);
  ASSERT_EQ(live.size(), 3u);
  EXPECT_EQ(std::get<Generated>(live[2]).tokens[0], 3);
  open();
  EXPECT_EQ(replayed(a), live);
}

}  // namespace
}  // namespace ringtide::storage
