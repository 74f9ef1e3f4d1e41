// The registry in virtual time, among shards that answer late, are busy, die and join: how long
// there is no ring, and how often one ends.
#include "actors/cluster/registry.h"

#include <gtest/gtest.h>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <random>
#include <vector>

namespace ringtide::actors::cluster {
namespace {

using std::chrono::milliseconds;

struct Virtual : caf::actor_system_config {
  Virtual() {
    add_message_types<caf::id_block::ringtide_cluster>();
    set("scheduler.policy", caf::atom("testing"));
  }
};

// A shard as the registry sees it: it handles one message after the other, and may be busy.
struct Scripted {
  std::string name;
  ShardActor shard;
  PeerActor mailbox;
  MemberId id = 0;
  int64_t busy_until = 0;         // virtual ms
  std::vector<uint64_t> waiting;  // rings that it has not answered for being busy
  bool alive = true;
  int expelled = 0;
};

class RegistryTest : public ::testing::Test {
 protected:
  RegistryTest() {
    parts.terms = {{"protocol", "x"}};
    parts.generation = 100;
    parts.mailbox = system_.spawn(mailbox);
    parts.step_deadline = milliseconds(30000);
    parts.closing = std::make_shared<std::atomic<bool>>(false);
    parts.lost = [this](const std::string&) { ++lost; };
  }
  ~RegistryTest() override {
    for (Scripted& s : shards) caf::anon_send_exit(s.shard, caf::exit_reason::kill);
    for (Scripted& s : shards) caf::anon_send_exit(s.mailbox, caf::exit_reason::kill);
    caf::anon_send_exit(registry, caf::exit_reason::kill);
    caf::anon_send_exit(parts.mailbox, caf::exit_reason::kill);
    sched_.run();
  }

  void start(int count) {
    registry = system_.spawn(actors::cluster::registry, parts);
    shards.resize(count);
    for (int i = 0; i < count; ++i) come(i);
    sched_.run();
  }
  // The first ring waits for shards that take so long to start.
  void start_slowly(int count, int64_t ms) {
    start(0);
    members = count;
    required = true;
    ask();
    pass(ms);
    ASSERT_FALSE(stands());
    shards.resize(count);
    for (int i = 0; i < count; ++i) come(i);
    pass(20);
    ASSERT_TRUE(stands());
    required = false;
    without = 0;
  }
  // A process of its own each time.
  void come(int i) {
    Scripted& s = shards[i];
    const int expelled = s.expelled;
    s = {};
    s.expelled = expelled;
    s.name = "shard " + std::to_string(i);
    s.mailbox = system_.spawn(mailbox);
    s.shard = system_.spawn([this, i]() -> ShardActor::behavior_type {
      return {
          [this, i](const Joined& m) { shards[i].id = m.id; },
          [](const RefusedJoin&) { FAIL(); },
          [this, i](const Form& m) { shards[i].waiting.push_back(m.generation); },
          [](const Begin&) {},
          [](const MakeCall&) {},
          [](const Disband&) {},
          [](const TellHeld&) {},
          [this, i](const Expelled&) {
            shards[i].id = 0;
            ++shards[i].expelled;
          },
      };
    });
    send(Join{parts.terms, {0, s.name, "h", 1}, s.shard, s.mailbox});
  }
  void die(int i) {
    shards[i].alive = false;
    caf::anon_send_exit(shards[i].shard, caf::exit_reason::remote_link_unreachable);
    sched_.run();
  }
  template <class Message>
  void send(Message message) {
    caf::anon_send(registry, std::move(message));
    sched_.run();
  }
  // What the leader does with a ring that is over: it asks for the next one until there is one.
  void ask() {
    FormRing ask;
    ask.members = members;
    ask.wait_ms = 1000;
    ask.required = required;
    ask.done = [this](Ring made) {
      answered = true;
      ring = std::move(made);
    };
    answered = false;
    send(std::move(ask));
  }
  void pass(int64_t ms) {
    for (int64_t end = now + ms; now < end;) {
      now += 10;
      sched_.clock().advance_time(milliseconds(10));
      sched_.run();
      for (Scripted& s : shards) {
        if (!s.alive || now < s.busy_until) continue;
        for (const uint64_t generation : std::exchange(s.waiting, {})) {
          send(Linked{generation, s.id, false});
          send(Linked{generation, s.id, true});
        }
      }
      if (stands() && ring.end->over()) {
        ended.push_back({formed_at, now, *ring.end->over()});
        ring = {};
        ask();
      }
      if (answered && !ring.end) ask();
      if (answered && ring.end) {
        answered = false;
        formed_at = now;
        members = ring.members.size();
      }
      if (!stands()) without += 10;
    }
  }
  bool stands() const { return ring.end != nullptr; }
  void form() {
    members = shards.size();
    ask();
    pass(10);
    ASSERT_TRUE(stands());
    without = 0;
  }

  struct Ended {
    int64_t from, to;
    std::string why;
  };
  RegistryParts parts;
  RegistryActor registry;
  std::vector<Scripted> shards;
  int lost = 0;
  size_t members = 0;
  bool answered = false, required = false;
  Ring ring;
  int64_t now = 0, formed_at = 0;
  int64_t without = 0;  // ms in which there was no ring
  std::vector<Ended> ended;

 private:
  Virtual config_;
  caf::actor_system system_{config_};
  caf::scheduler::test_coordinator& sched_ =
      dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler());
};

TEST_F(RegistryTest, AShardThatDiesCostsNoMoreThanTheWaitForAnother) {
  start(3);
  form();
  die(1);
  pass(3000);
  EXPECT_TRUE(stands());
  EXPECT_EQ(ring.members.size(), 2u);
  EXPECT_LE(without, 1100);
}

TEST_F(RegistryTest, WhoStartsQuicklyIsWaitedFor) {
  start_slowly(3, 1500);
  die(1);
  pass(700);
  come(1);
  pass(1000);
  ASSERT_TRUE(stands());
  EXPECT_EQ(ring.members.size(), 3u);
  EXPECT_EQ(ended.size(), 1u);
}

TEST_F(RegistryTest, WhoStartsSlowlyIsNotWaitedFor) {
  start_slowly(3, 4000);
  die(1);
  pass(1000);
  ASSERT_TRUE(stands());
  EXPECT_EQ(ring.members.size(), 2u);
  EXPECT_LE(without, 100);
}

// It computes, and answers when it is done: nobody kills it, and it is taken in again.
TEST_F(RegistryTest, ABusyShardIsLeftOutAndNotThrownOut) {
  start(3);
  form();
  shards[2].busy_until = now + 12000;
  die(1);
  pass(11000);
  EXPECT_TRUE(stands());
  EXPECT_EQ(ring.members.size(), 1u);
  EXPECT_LE(without, 1000 + 5000 + 1000 + 100);
  pass(8000);
  EXPECT_EQ(ring.members.size(), 2u);
  EXPECT_EQ(lost, 1) << "the one that died";
  EXPECT_EQ(shards[2].expelled, 0);
}

TEST_F(RegistryTest, OneThatNeverAnswersIsThrownOut) {
  start(2);
  form();
  shards[1].busy_until = now + 1000000;
  send(Broken{ring.generation, shards[0].id, "it broke"});
  pass(10000);
  EXPECT_EQ(ring.members.size(), 1u);
  EXPECT_EQ(shards[1].expelled, 0);
  pass(31000);
  EXPECT_EQ(shards[1].expelled, 1);
  EXPECT_EQ(lost, 1);
}

TEST_F(RegistryTest, WhoJoinsOneAfterTheOtherEndsOneRing) {
  start(6);
  form();
  for (const int i : {1, 2, 3}) die(i);
  pass(1500);
  ASSERT_TRUE(stands());
  const size_t before = ended.size();
  for (const int i : {1, 2, 3}) {
    come(i);
    pass(1200);
  }
  pass(10000);
  EXPECT_EQ(ring.members.size(), 6u);
  EXPECT_EQ(ended.size(), before + 1);
}

// An answer under way is not interrupted for who comes; one after the other without an end is.
TEST_F(RegistryTest, WhoIsBackWaitsForWorkToEndButNotForEver) {
  bool at_work = true;
  parts.at_work = [&] { return at_work; };
  start(3);
  form();
  for (const bool ends : {true, false}) {
    at_work = true;
    die(1);
    pass(1500);
    come(1);
    const size_t before = ended.size();
    pass(20000);
    EXPECT_EQ(ring.members.size(), 2u);
    EXPECT_EQ(ended.size(), before);
    at_work = !ends;
    pass(ends ? 300 : 11000);
    EXPECT_EQ(ring.members.size(), 3u) << (ends ? "work ended" : "it went on");
    EXPECT_EQ(ended.size(), before + 1);
  }
}

// Whatever comes together on a machine that is far too busy: there is a ring again soon, and it is
// not ended right away to let somebody in.
TEST_F(RegistryTest, TroublesDoNotAddUp) {
  start(7);
  form();
  std::mt19937_64 random(3);
  int64_t longest = 0;
  std::vector<int64_t> back(7, -1);
  for (int round = 0; round < 300; ++round) {
    const int i = static_cast<int>(random() % 7);
    if (shards[i].alive && random() % 2 == 0) {
      die(i);
      back[i] = now + 500 + static_cast<int64_t>(random() % 4000);
    } else {
      shards[i].busy_until = now + static_cast<int64_t>(random() % 9000);
    }
    without = 0;
    for (int64_t end = now + static_cast<int64_t>(random() % 12000); now < end;) {
      pass(50);
      for (int s = 0; s < 7; ++s) {
        if (back[s] < 0 || now < back[s]) continue;
        back[s] = -1;
        come(s);
      }
      if (stands()) longest = std::max(longest, without), without = 0;
    }
  }
  EXPECT_LT(longest, 15000);
  for (const Ended& e : ended) {
    if (!e.why.ends_with("joined")) continue;
    EXPECT_GE(e.to - e.from, 5000) << e.why;
  }
  pass(40000);
  EXPECT_EQ(ring.members.size(), 7u);
}

}  // namespace
}  // namespace ringtide::actors::cluster
