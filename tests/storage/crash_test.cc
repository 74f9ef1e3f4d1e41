// Kills a process that works on a store, many times, and looks at what is left.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <set>
#include <sstream>

#include "tests/storage/temp_store.h"

namespace ringtide::storage {
namespace {

struct Acknowledged {
  uint64_t next = 0;        // after the last record
  std::set<uint64_t> puts;  // units, by the record they came after
  std::set<SessionId> created, removed;
};

// Starts the child, kills it after it acknowledged `lines` things, and notes all it said.
void run_and_kill(const std::string& path, int lines, Acknowledged& acknowledged) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::execl(CRASH_CHILD, CRASH_CHILD, path.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  std::FILE* out = ::fdopen(ends[0], "r");
  char line[512];
  while (std::fgets(line, sizeof line, out) != nullptr) {
    std::istringstream words(line);
    std::string what;
    uint64_t number = 0;
    words >> what >> number;
    if (what == "append")
      acknowledged.next = number + 1;
    else if (what == "put")
      acknowledged.puts.insert(number);
    else if (what == "created")
      acknowledged.created.insert(number);
    else if (what == "removed")
      acknowledged.removed.insert(number);
    else
      ADD_FAILURE() << line;
    if (--lines == 0) ::kill(child, SIGKILL);
  }
  std::fclose(out);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

class CrashTest : public StoreTest {};

TEST_F(CrashTest, NothingIsLostAndNoUnitIsWrong) {
  constexpr int kKills = 60;
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Acknowledged acknowledged;
  for (int kill = 0; kill < kKills; ++kill) {
    close();
    ASSERT_NO_FATAL_FAILURE(run_and_kill(path(), 1 + int(random() % 25), acknowledged));
    ASSERT_NO_FATAL_FAILURE(open());

    const SessionId main = store().find("main").value().id;
    const auto records = replayed(main);
    ASSERT_GE(records.size(), acknowledged.next);
    for (size_t i = 1; i < records.size(); ++i)
      ASSERT_EQ(std::get<Generated>(records[i]).tokens[0], int32_t(i));

    for (const SessionId id : acknowledged.removed)
      EXPECT_EQ(store().find(id).status().code(), Code::NotFound);
    // One that was not yet acknowledged as removed may be gone as well, but only the last.
    int missing = 0;
    for (const SessionId id : acknowledged.created)
      if (!acknowledged.removed.contains(id) && !store().find(id).ok()) {
        acknowledged.removed.insert(id);
        ++missing;
      }
    EXPECT_LE(missing, 1);

    for (uint64_t i = 0; i < records.size(); ++i) {
      std::vector<std::byte> into(2000 + i % 100), right(into.size(), std::byte(i));
      PartRead read{.key = {7, i}, .part = 1, .into = into};
      const bool contained = store().contains(read.key);
      store().read({&read, 1});
      ASSERT_EQ(read.outcome, contained ? ReadOutcome::Ok : ReadOutcome::Absent);
      EXPECT_TRUE(contained || !acknowledged.puts.contains(i)) << "unit " << i << " is lost";
      if (contained) {
        ASSERT_EQ(into, right);
      }
    }
    EXPECT_EQ(store().stats().corrupt_parts, 0);
    EXPECT_EQ(store().size(main).value().units, store().stats().units)
        << "a unit is left that its owner does not know";
  }
  // The last state is as good as one that no crash made.
  for (const auto& entry : store().list().value()) ASSERT_TRUE(store().remove(entry.id).ok());
  EXPECT_EQ(store().stats().units, 0);
  with_database("units", [](rocksdb::DB& db, auto families) {
    for (auto* family : families) {
      const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator({}, family));
      it->SeekToFirst();
      EXPECT_FALSE(it->Valid()) << "rows are left in " << family->GetName();
    }
  });
}

}  // namespace
}  // namespace ringtide::storage
