#include "storage/session_log.h"

#include <thread>

#include "tests/storage/temp_store.h"

namespace ringtide::storage {
namespace {

class SessionLogTest : public StoreTest {};

Generated generated(int32_t token) { return {.tokens = {token}}; }

TEST_F(SessionLogTest, CreatedSessionIsThereAfterReopen) {
  const SessionId id = create("first");
  open();
  const auto by_name = store().find("first");
  ASSERT_TRUE(by_name.ok());
  EXPECT_EQ(by_name.value().id, id);
  EXPECT_GT(by_name.value().created_ms, 0);
  ASSERT_TRUE(store().find(id).ok());
  EXPECT_EQ(store().find(id).value().name, "first");
  const auto records = replayed(id);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(std::get<Opened>(records[0]).system, "be brief");
}

TEST_F(SessionLogTest, NamesAreUnique) {
  create("same");
  EXPECT_EQ(store().create("same", {}).status().code(), Code::Exists);
  open();
  EXPECT_EQ(store().create("same", {}).status().code(), Code::Exists);
  EXPECT_EQ(store().find("other").status().code(), Code::NotFound);
  EXPECT_EQ(store().find(SessionId{99}).status().code(), Code::NotFound);
}

TEST_F(SessionLogTest, OneOfManyThreadsGetsTheName) {
  std::atomic<int> created = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] { created += store().create("wanted", {}).ok(); });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(created, 1);
  EXPECT_EQ(store().list().value().size(), 1u);
}

TEST_F(SessionLogTest, RecordsComeBackInOrderAlsoAfterReopen) {
  const SessionId a = create("a"), b = create("b");
  std::vector<LogWrite> group;
  const auto add = [&](SessionId id, uint64_t sequence, int32_t token) {
    LogWrite& write = group.emplace_back();
    write.session = id;
    write.sequence = sequence;
    write.record = generated(token);
  };
  for (uint64_t i = 1; i <= 300; ++i) {
    add(a, i, int32_t(i));
    add(b, i, -int32_t(i));
  }
  ASSERT_TRUE(store().append(group).ok());
  open();
  ASSERT_TRUE(append(a, 301, Ended{.reason = 1, .tokens = {}}).ok());
  const auto records = replayed(a);
  ASSERT_EQ(records.size(), 302u);
  for (int i = 1; i <= 300; ++i) EXPECT_EQ(std::get<Generated>(records[i]).tokens[0], i);
  EXPECT_EQ(std::get<Ended>(records[301]).reason, 1);
  EXPECT_EQ(replayed(b).size(), 301u);
}

TEST_F(SessionLogTest, ReplayStopsWhenToldTo) {
  const SessionId id = create("a");
  ASSERT_TRUE(append(id, 1, generated(1)).ok());
  int seen = 0;
  EXPECT_TRUE(store().replay(id, [&](uint64_t, LogRecord&&) { return ++seen < 1; }).ok());
  EXPECT_EQ(seen, 1);
}

TEST_F(SessionLogTest, GapsAndUnknownSessionsAreRefusedWhole) {
  const SessionId a = create("a"), b = create("b");
  const std::vector<LogWrite> gap = {{.session = b, .sequence = 1, .record = generated(1)},
                                     {.session = a, .sequence = 2, .record = generated(1)}};
  const Status refused = store().append(gap);
  EXPECT_EQ(refused.code(), Code::Failed);
  EXPECT_NE(refused.message().find("goes on with 1"), std::string::npos) << refused.message();
  EXPECT_EQ(append(a, 0, generated(1)).code(), Code::Failed);
  EXPECT_EQ(append(77, 0, generated(1)).code(), Code::NotFound);
  EXPECT_EQ(replayed(b).size(), 1u) << "part of a refused group was written";
  EXPECT_TRUE(append(b, 1, generated(1)).ok());
}

TEST_F(SessionLogTest, OneSyncAGroup) {
  const SessionId id = create("a");
  const int64_t before = store().stats().syncs;
  std::vector<LogWrite> group;
  for (uint64_t i = 1; i <= 32; ++i)
    group.push_back({.session = id, .sequence = i, .record = generated(1)});
  ASSERT_TRUE(store().append(group).ok());
  EXPECT_EQ(store().stats().syncs, before + 1);
  EXPECT_TRUE(store().append({}).ok());
  EXPECT_EQ(store().stats().syncs, before + 1);
}

TEST_F(SessionLogTest, LogBytesAreThoseOfTheRecords) {
  const SessionId id = create("a");
  const auto bytes = [&] { return store().size(id).value().log_bytes; };
  const int64_t first = bytes();
  EXPECT_GT(first, 0);
  ASSERT_TRUE(append(id, 1, generated(1)).ok());
  EXPECT_EQ(bytes(), first + int64_t(encode(generated(1)).size()));
  const int64_t before = bytes();
  open();
  EXPECT_EQ(bytes(), before);
  EXPECT_EQ(store().size(77).status().code(), Code::NotFound);
}

TEST_F(SessionLogTest, RemovedSessionIsGoneAndItsIdNeverComesBack) {
  const SessionId first = create("a");
  const SessionId newest = create("b");
  ASSERT_TRUE(append(newest, 1, generated(1)).ok());
  ASSERT_TRUE(store().remove(newest).ok());
  EXPECT_EQ(store().find("b").status().code(), Code::NotFound);
  EXPECT_EQ(store().remove(newest).code(), Code::NotFound);
  EXPECT_EQ(append(newest, 2, generated(1)).code(), Code::NotFound);
  Status status;
  replayed(newest, &status);
  EXPECT_EQ(status.code(), Code::NotFound);
  EXPECT_GT(create("c"), newest);
  ASSERT_TRUE(store().remove(store().find("c").value().id).ok());
  open();
  const SessionId after = create("b");
  EXPECT_GT(after, newest + 1);
  EXPECT_EQ(replayed(after).size(), 1u);
  EXPECT_EQ(replayed(first).size(), 1u);
  EXPECT_EQ(store().stats().sessions, 2);
}

TEST_F(SessionLogTest, SessionsAppendFromManyThreads) {
  constexpr int kSessions = 6, kRecords = 40;
  std::vector<SessionId> ids;
  for (int i = 0; i < kSessions; ++i) ids.push_back(create(std::to_string(i)));
  std::vector<std::thread> threads;
  for (const SessionId id : ids)
    threads.emplace_back([&, id] {
      for (int i = 1; i <= kRecords; ++i) {
        const LogWrite write{.session = id, .sequence = uint64_t(i), .record = generated(i)};
        EXPECT_TRUE(store().append({&write, 1}).ok());
      }
    });
  for (auto& thread : threads) thread.join();
  for (const SessionId id : ids) EXPECT_EQ(replayed(id).size(), kRecords + 1u);
}

}  // namespace
}  // namespace ringtide::storage
