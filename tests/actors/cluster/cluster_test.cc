// A leader and shards over loopback, each with an actor system of its own: joining, rings, calls,
// and what becomes of them when a shard fails.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <thread>

#include "actors/cluster/joiner.h"
#include "actors/cluster/leader.h"
#include "actors/cluster/messages.h"
#include "actors/cluster/net.h"
#include "storage/store.h"
#include "tests/support/fake_shard_engine.h"
#include "tests/support/memory_units.h"

namespace ringtide::actors::cluster {
namespace {

using std::chrono::milliseconds;
using testing::FakePass;
using testing::FakeWorld;
using Clock = std::chrono::steady_clock;

const Terms kTerms = {{"protocol", "1"}, {"model", "fake"}};
const Address kLoopback{"127.0.0.1", 0};

bool wait_until(const std::function<bool()>& holds) {
  const auto end = Clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

// A shard, in this process.
struct Shard {
  FakeWorld world;
  std::unique_ptr<storage::Store> store;
  std::unique_ptr<Joiner> joiner;
};

class ClusterTest : public ::testing::Test {
 protected:
  ClusterTest() {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() /
            ("ringtide-cluster-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
    std::filesystem::remove_all(path_);
  }
  ~ClusterTest() override {
    engine.reset();
    shards.clear();
    leader.reset();
    std::filesystem::remove_all(path_);
  }

  void lead(int ring_of, milliseconds deadline = milliseconds(20000)) {
    LeaderOptions options;
    options.listen = kLoopback;
    options.terms = kTerms;
    options.shards = ring_of;
    options.first_ring = first_ring;
    options.step_deadline = deadline;
    options.admission = milliseconds(200);
    options.make_engine = [this](model::UnitStore& units, model::ShardTransport& transport) {
      return make_fake_shard_engine(world, &units, transport);
    };
    options.sessions = [this] { return sessions; };
    options.lost = [this](const std::string&) { ++lost; };
    leader = std::make_unique<Leader>(std::move(options));
  }
  Shard& join(const std::string& name, const Terms& terms = kTerms) {
    auto shard = std::make_unique<Shard>();
    auto store = storage::Store::open((path_ / name).string(), {.fingerprint = "f"});
    EXPECT_TRUE(store.ok()) << store.status().message();
    shard->store = std::move(store.value());
    JoinerOptions options;
    options.leader = {"127.0.0.1", leader->port()};
    options.listen = kLoopback;
    options.terms = terms;
    options.name = name;
    options.store = shard->store.get();
    options.make_engine = [world = &shard->world](model::UnitStore& units,
                                                  model::ShardTransport& transport) {
      return make_fake_shard_engine(*world, &units, transport);
    };
    shard->joiner = std::make_unique<Joiner>(std::move(options));
    shards.push_back(std::move(shard));
    return *shards.back();
  }
  void make_engine() { engine = leader->make_engine(units); }
  void open_and_fill(model::ContextId id) {
    engine->open(id, {.block = 64});
    engine->prefill(id, std::vector<model::TokenId>{1, 2, 3});
  }
  std::vector<model::TokenId> say(model::ContextId id, int count) {
    std::vector<model::TokenId> said;
    for (int i = 0; i < count; ++i) {
      const model::DecodeRow row{id, engine->sample(id, {})};
      said.push_back(row.token);
      engine->decode({&row, 1});
    }
    return said;
  }
  // What a lone engine says.
  std::vector<model::TokenId> expected(int count) {
    FakeWorld alone;
    engine.swap(kept_);
    engine = alone.make();
    open_and_fill(1);
    auto said = say(1, count);
    engine.swap(kept_);
    kept_.reset();
    return said;
  }

  milliseconds first_ring{30000};
  std::vector<uint64_t> sessions = {1, 2};
  std::atomic<int> lost{0};
  FakeWorld world;  // the leader's
  testing::MemoryUnits units;
  std::unique_ptr<Leader> leader;
  std::vector<std::unique_ptr<Shard>> shards;
  std::unique_ptr<model::Engine> engine;

 private:
  std::unique_ptr<model::Engine> kept_;
  std::filesystem::path path_;
};

TEST_F(ClusterTest, TheLeaderAloneHasAnEngine) {
  lead(1);
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 5), expected(5));
}

TEST_F(ClusterTest, AllShardsMakeTheSameCalls) {
  lead(4);
  for (const char* name : {"a", "b", "c"}) join(name);
  make_engine();
  EXPECT_EQ(leader->shards().size(), 3u);
  open_and_fill(1);
  EXPECT_EQ(say(1, 20), expected(20));
  engine->restore(2, {.block = 64}, {1, 2, 3, 4}, {3, 1});
  while (!engine->replay(2).finished) continue;
  engine->close(1);
  EXPECT_FALSE(engine->has(1));
  for (const auto& shard : shards) {
    // The last call may still be under way there.
    EXPECT_TRUE(wait_until([&] { return shard->world.count(FakePass::Kind::Decode) == 20; }));
    EXPECT_TRUE(wait_until([&] { return shard->world.count(FakePass::Kind::Replay) == 2; }));
  }
}

TEST_F(ClusterTest, ARefusedCallHurtsNobody) {
  lead(2);
  join("a").world.max_contexts = 1;
  world.max_contexts = 1;
  make_engine();
  open_and_fill(1);
  EXPECT_THROW(engine->open(2, {.block = 64}), model::OutOfBudget);
  EXPECT_EQ(say(1, 5), expected(5));
}

TEST_F(ClusterTest, AMismatchIsRefusedByName) {
  lead(1);
  Shard& stranger = join("stranger", {{"protocol", "1"}, {"model", "other"}});
  EXPECT_EQ(stranger.joiner->refused(milliseconds(30000)), "model is other, the cluster's is fake");
  EXPECT_TRUE(leader->shards().empty());
}

TEST_F(ClusterTest, TooFewShardsAreAnError) {
  first_ring = milliseconds(300);
  lead(3);
  join("a");
  try {
    make_engine();
    FAIL();
  } catch (const model::RingError& error) {
    EXPECT_NE(std::string(error.what()).find("of 2 shards joined in time"), std::string::npos)
        << error.what();
  }
}

TEST_F(ClusterTest, AShardThatStopsEndsTheRingAndTheNextIsWithoutIt) {
  lead(3);
  join("a"), join("b");
  make_engine();
  open_and_fill(1);
  shards.erase(shards.begin());
  EXPECT_TRUE(wait_until([&] { return leader->shards().size() == 1; }));
  EXPECT_THROW(say(1, 5), model::RingError);
  EXPECT_THROW(engine->close(1), model::RingError) << "it is over for good";
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 5), expected(5));
  EXPECT_EQ(lost, 1);
}

TEST_F(ClusterTest, AShardWhoseEngineThrowsEndsTheRingForAll) {
  lead(3);
  join("a").world.before_pass([n = std::make_shared<int>(0)](const FakePass& pass) {
    if (pass.kind == FakePass::Kind::Decode && ++*n == 3) throw std::runtime_error("broke");
  });
  join("b");
  make_engine();
  open_and_fill(1);
  try {
    say(1, 100);
    FAIL() << "a shard has failed";
  } catch (const model::RingError& error) {
    EXPECT_NE(std::string(error.what()).find("broke"), std::string::npos) << error.what();
  }
  shards[0]->world.before_pass({});
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 20), expected(20));
  EXPECT_EQ(leader->shards().size(), 2u) << "all are still members";
}

TEST_F(ClusterTest, TheLeadersOwnFailureEndsTheRingForAll) {
  lead(2);
  join("a");
  make_engine();
  open_and_fill(1);
  world.before_pass([](const FakePass&) { throw std::runtime_error("the leader broke"); });
  EXPECT_THROW(engine->prefill(1, std::vector<model::TokenId>{9}), std::runtime_error);
  world.before_pass({});
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 5), expected(5));
}

TEST_F(ClusterTest, AHungEngineIsAbortedAndLeftOut) {
  lead(3, milliseconds(300));
  testing::Gate gate;
  join("a").world.before_pass([&](const FakePass& pass) {
    if (pass.kind == FakePass::Kind::Decode) gate.wait();
  });
  join("b");
  make_engine();
  open_and_fill(1);
  const auto began = Clock::now();
  EXPECT_THROW(say(1, 5), model::RingError);
  EXPECT_LT(Clock::now() - began, std::chrono::seconds(10));
  // It does not answer; the others go on.
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 5), expected(5));
  EXPECT_EQ(leader->shards().size(), 1u);
  // It comes back, and the ring re-forms with it.
  shards[0]->world.before_pass({});
  gate.open();
  EXPECT_TRUE(wait_until([&] { return leader->shards().size() == 2; }));
  EXPECT_TRUE(wait_until([&] {
    try {
      say(1, 1);
      return false;
    } catch (const model::RingError&) {
      return true;
    }
  }));
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 5), expected(5));
}

TEST_F(ClusterTest, WhoJoinsLaterIsTakenIn) {
  lead(1);
  make_engine();
  open_and_fill(1);
  join("late");
  EXPECT_TRUE(wait_until([&] {
    try {
      say(1, 1);
      return false;
    } catch (const model::RingError& error) {
      EXPECT_NE(std::string(error.what()).find("late joined"), std::string::npos) << error.what();
      return true;
    }
  }));
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 10), expected(10));
  EXPECT_TRUE(wait_until([&] { return shards[0]->world.count(FakePass::Kind::Decode) == 10; }));
}

TEST_F(ClusterTest, AShardOutlivesItsLeader) {
  lead(2);
  join("a");
  make_engine();
  const uint16_t port = leader->port();
  engine.reset();
  leader.reset();
  LeaderOptions options;
  options.listen = {"127.0.0.1", port};
  options.terms = kTerms;
  options.shards = 2;
  options.sessions = [] { return std::vector<uint64_t>(); };
  options.make_engine = [this](model::UnitStore& units, model::ShardTransport& transport) {
    return make_fake_shard_engine(world, &units, transport);
  };
  leader = std::make_unique<Leader>(std::move(options));
  make_engine();
  open_and_fill(1);
  EXPECT_EQ(say(1, 5), expected(5));
  EXPECT_EQ(leader->shards().size(), 1u);
}

TEST_F(ClusterTest, UnitsBelongToSessionsAndGoWithThem) {
  lead(2);
  Shard& a = join("a");
  a.world.unit = world.unit = 16;
  make_engine();
  for (const model::ContextId id : {1, 2}) {
    engine->open(id, {.block = 64});
    engine->prefill(id, std::vector<model::TokenId>(64, static_cast<int>(id)));
  }
  const auto names = [&] {
    std::string all;
    for (const auto& entry : a.store->list().value()) all += entry.name + ";";
    return all;
  };
  EXPECT_TRUE(wait_until([&] { return a.store->stats().units == 8; })) << a.store->stats().units;
  EXPECT_EQ(names(), "session 1;session 2;");
  sessions = {2};
  engine.reset();
  make_engine();
  EXPECT_TRUE(wait_until([&] { return a.store->stats().units == 4; })) << a.store->stats().units;
  EXPECT_EQ(names(), "session 2;");
}

TEST_F(ClusterTest, ShardsSayWhatTheyHoldOfASession) {
  lead(3);
  join("a").world.unit = 16;
  join("b").world.unit = 16;
  world.unit = 16;
  make_engine();
  for (const model::ContextId id : {1, 2}) {
    engine->open(id, {.block = 64});
    for (model::ContextId block = 0; block < id; ++block)
      engine->prefill(id, std::vector<model::TokenId>(64, static_cast<int>(id)));
  }
  const auto held = [&](uint64_t session) {
    std::promise<std::vector<ShardHolding>> told;
    leader->held(session, [&](std::vector<ShardHolding> all) { told.set_value(std::move(all)); });
    return told.get_future().get();
  };
  EXPECT_TRUE(wait_until([&] {
    const auto all = held(2);
    return all.size() == 2 && all[0].holding && all[1].holding && all[0].holding->units == 8 &&
           all[1].holding->units == 8 && all[1].holding->unit_bytes > 0;
  }));
  EXPECT_EQ(held(2)[0].who.name, "a");
  EXPECT_EQ(held(1)[0].holding->units, 4);
  EXPECT_EQ(held(3)[0].holding->units, 0) << "there is no such session";

  testing::Gate gate;
  shards[1]->world.before_pass([&](const FakePass& pass) {
    if (pass.kind == FakePass::Kind::Decode) gate.wait();
  });
  std::thread other([&] { EXPECT_EQ(say(1, 1).size(), 1u); });
  EXPECT_TRUE(wait_until([&] { return !held(1)[1].holding; })) << "one that computes says nothing";
  gate.open();
  other.join();
}

TEST_F(ClusterTest, AnAddressInUseIsSaid) {
  lead(1);
  Net net({});
  LeaderOptions options;
  options.listen = {"127.0.0.1", leader->port()};
  EXPECT_THROW(Leader{std::move(options)}, NetError);
}

TEST_F(ClusterTest, StrangersOnThePortHurtNobody) {
  lead(2);
  join("a");
  make_engine();
  open_and_fill(1);
  Net net({});
  // One of another protocol: what it asks for is not there.
  EXPECT_THROW(net.connect<PeerActor>({"127.0.0.1", leader->port()}, milliseconds(5000)), NetError);
  EXPECT_EQ(say(1, 5), expected(5));
}

}  // namespace
}  // namespace ringtide::actors::cluster
