// Thousands of lives of a session on simulated rings: order and delays of messages, one fault after
// the other, rings formed anew with those left or with a fresh one, units lost. Whatever happens,
// the session goes on as on one shard, and a fault ends in an error on every shard that lives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>

#include "model/shard_engine.h"
#include "tests/model/engine_fixture.h"
#include "tests/support/sharded_engine.h"
#include "tests/support/simulated_ring.h"

namespace ringtide::testing {
namespace {

int number(const char* variable, int otherwise) {
  const char* given = std::getenv(variable);
  return given ? std::atoi(given) : otherwise;
}

EngineOptions options(int unit_copies = 1) {
  EngineOptions o;
  o.unit_copies = unit_copies;
  o.threads = 1;
  o.ram_budget = 16 << 20;
  o.half_kv = false;
  return o;
}

// A session and what one shard makes of it.
struct Life {
  SmallModel m;
  PolicyConfig policy;
  std::vector<TokenId> tokens;
  std::vector<int32_t> lengths;  // of the blocks
  std::vector<bool> sampled;     // whether a block is one token that was sampled before
  // After each block.
  std::vector<std::vector<float>> logits;
  std::vector<std::vector<model::UnitUse>> used;
};

// Empty if a choice of it is so close that rounding could turn it.
std::optional<Life> make_life(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto one_of = [&](auto... of) {
    const std::common_type_t<decltype(of)...> all[] = {of...};
    return all[random() % sizeof...(of)];
  };
  SmallShape shape{.layers = 2, .hidden = 16, .head_dim = 8, .ffn = 24};
  shape.kv_heads = one_of(1, 2, 4);
  if (seed % 5 == 4) {
    shape.sliding_window = one_of(6, 12, 40);
    shape.period = 2;
  }
  Life life;
  life.m = small_model(seed, shape);
  life.policy = small_policy(PolicyKind(seed % 3));
  life.policy.window = 16;
  life.policy.sinks = one_of(0, 3, 8);
  life.policy.block = one_of(8, 16);
  if (life.policy.kind == PolicyKind::InfLlm && seed % 2 == 0) {
    life.policy = probing_policy();
    life.policy.block = 8;
  }
  const bool groups = life.policy.unit == 2;

  MemoryUnits units;
  const auto engine = model::make_cpu_engine(life.m.model, options(), units);
  engine->open(1, life.policy);
  Reference reference(life.m, life.policy);
  BlockPlan plan(life.policy.block);
  bool clear = true;
  const auto run = [&](bool sampled) {
    while (const int32_t n = plan.next()) {
      const auto block = std::span(life.tokens).subspan(plan.processed(), n);
      engine->prefill(1, block);
      reference.run(block);
      plan.taken(n);
      life.lengths.push_back(n);
      life.sampled.push_back(sampled);
      const auto logits = engine->logits(1);
      life.logits.emplace_back(logits.begin(), logits.end());
      life.used.push_back(engine->last_used(1));
    }
  };
  for (int turn = 0; turn < 2; ++turn) {
    const auto text = random_tokens(random(), (groups && turn == 0 ? 300 : 20) + random() % 60);
    life.tokens.insert(life.tokens.end(), text.begin(), text.end());
    plan.append(static_cast<int64_t>(text.size()));
    run(false);
    plan.begin_generation();
    run(false);
    for (int i = 0; i < 6; ++i) {
      std::vector<float> sorted = life.logits.back();
      std::ranges::nth_element(sorted, sorted.begin() + 1, std::greater<>());
      clear = clear && sorted[0] - sorted[1] > 1e-3f;
      life.tokens.push_back(engine->sample(1, {}));
      plan.token();
      if (i == 5) break;  // waits for the text of the next turn
      plan.begin_generation();
      run(true);
    }
  }
  if (!clear || reference.closest_choice() < 1e-4) return {};
  return life;
}

// The shards of one generation of a ring. A killed one is gone with its store, or comes back with
// it.
struct Ring {
  Ring(const Life& life, std::vector<std::shared_ptr<MemoryUnits>> with, int unit_copies,
       uint64_t seed, const RingFault& fault)
      : stores(std::move(with)),
        simulation(static_cast<int>(stores.size()), seed, fault),
        engines(stores.size()),
        threads(static_cast<int>(stores.size())) {
    each([&](int s) {
      engines[s] = model::make_shard_engine(life.m.model, options(unit_copies), *stores[s],
                                            simulation.at(s));
    });
  }
  int shards() const { return static_cast<int>(stores.size()); }

  std::vector<std::exception_ptr> each(const std::function<void(int)>& body) {
    return threads.outcomes([&](int s) {
      simulation.enter(s);
      struct Leave {
        Ring& ring;
        int s;
        ~Leave() { ring.simulation.leave(s); }
      } leave{*this, s};
      body(s);
    });
  }
  // A call of all shards. True if it worked on the first shard, on which the session relies.
  bool call(const std::function<void(Engine&, int)>& body) {
    const auto errors = each([&](int s) { body(*engines[s], s); });
    for (const auto& error : errors) {
      try {
        if (error) std::rethrow_exception(error);
      } catch (const model::RingError&) {
      } catch (const Killed&) {
      } catch (const std::exception& why) {
        ADD_FAILURE() << "a fault of the ring ended in: " << why.what();
      }
    }
    const bool failed = std::ranges::any_of(errors, [](const auto& e) { return e != nullptr; });
    EXPECT_TRUE(!failed || simulation.struck()) << "an error without a fault";
    return errors[0] == nullptr;
  }
  // Once a call has failed, none works any more on any shard.
  void expect_over() {
    for (const auto& error : each([&](int s) { engines[s]->open(1000, {}); })) {
      EXPECT_TRUE(error) << "a shard goes on in a broken ring";
    }
  }

  std::vector<std::shared_ptr<MemoryUnits>> stores;
  SimulatedRing simulation;
  std::vector<std::unique_ptr<Engine>> engines;
  ShardThreads threads;
};

struct Counts {
  int faults = 0, kills = 0, restores = 0, tokens = 0;
  int64_t rebuilt = 0;
};

// The session's life on rings of up to five shards, of one size after another. Every generated token and what was attended to
// is compared with one shard's.
void live(const Life& life, uint64_t seed, Counts& counts) {
  std::mt19937_64 random(seed);
  const auto chance = [&](int in) { return random() % in == 0; };
  std::vector<std::shared_ptr<MemoryUnits>> stores(2 + random() % 3);
  for (auto& store : stores) store = std::make_shared<MemoryUnits>();
  std::unique_ptr<Ring> ring;
  const int copies = 1 + static_cast<int>(random() % 2);
  size_t done = 0;  // blocks that the session knows to have run
  int64_t at = 0;   // tokens in them
  int troubles = 0;

  const auto form = [&] {
    RingFault fault;
    // Troubles end at some time, so that the session does.
    if (troubles < 3) {
      fault.kind = static_cast<RingFault::Kind>(random() % 5);
      fault.shard = static_cast<int>(random() % stores.size());
      fault.call = static_cast<int64_t>(random() % (uint64_t{8} << random() % 7));
    }
    ring = std::make_unique<Ring>(life, stores, copies, random(), fault);
    if (done == 0) return ring->call([&](Engine& e, int) { e.open(1, life.policy); });
    ++counts.restores;
    const std::vector<TokenId> tokens(life.tokens.begin(), life.tokens.begin() + at);
    const std::vector<int32_t> lengths(life.lengths.begin(), life.lengths.begin() + done);
    if (!ring->call([&](Engine& e, int) { e.restore(1, life.policy, tokens, lengths); }))
      return false;
    for (bool finished = false; !finished;)
      if (!ring->call([&](Engine& e, int s) {
            const Engine::Replay replay = e.replay(1);
            if (s == 0) finished = replay.finished;
          }))
        return false;
    return true;
  };
  // After a fault: the ring is over for all. The next one has those left, or a fresh one for the
  // one that is gone, or somebody has joined; in another order.
  const auto reform = [&] {
    do {
      ++troubles;
      ++counts.faults;
      ring->expect_over();
      std::vector<std::shared_ptr<MemoryUnits>> next;
      for (int s = 0; s < ring->shards(); ++s) {
        if (!ring->simulation.killed(s)) {
          next.push_back(stores[s]);
          continue;
        }
        ++counts.kills;
        if (chance(3))
          next.push_back(stores[s]);  // started again on its disk
        else if (chance(2))
          next.push_back(std::make_shared<MemoryUnits>());
      }
      if (next.size() < 5 && chance(4)) next.push_back(std::make_shared<MemoryUnits>());
      std::rotate(next.begin(), next.begin() + random() % next.size(), next.end());
      stores = std::move(next);
    } while (!form());
  };

  if (!form()) reform();
  while (done < life.lengths.size()) {
    if (chance(8)) {  // a store loses what it has of some units
      MemoryUnits& store = *stores[random() % stores.size()];
      store.lose_some(random());
    }
    const auto block = std::span(life.tokens).subspan(at, life.lengths[done]);
    std::vector<float> logits;
    std::vector<model::UnitUse> used;
    TokenId token = -1;
    const bool ok = ring->call([&](Engine& e, int s) {
      if (life.sampled[done]) {
        const model::DecodeRow row{1, block[0]};
        e.decode({&row, 1});
      } else {
        e.prefill(1, block);
      }
      const auto l = e.logits(1);
      const TokenId next = e.sample(1, {});
      if (s != 0) return;
      logits.assign(l.begin(), l.end());
      token = next;
      used = e.last_used(1);
    });
    if (!ok) {
      reform();
      continue;
    }
    const std::vector<float>& want = life.logits[done];
    float worst = 0, size = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      worst = std::max(worst, std::abs(logits[i] - want[i]));
      size = std::max(size, std::abs(want[i]));
    }
    ASSERT_LT(worst, 1e-4f * size) << "block " << done;
    ASSERT_TRUE(std::ranges::equal(
        used, life.used[done],
        [](const auto& a, const auto& b) { return a.unit == b.unit && a.layers == b.layers; }))
        << "block " << done;
    at += life.lengths[done++];
    if (done < life.lengths.size() && life.sampled[done]) {
      ASSERT_EQ(token, life.tokens[at]) << "block " << done;
      ++counts.tokens;
    }
  }
  counts.rebuilt += ring->engines[0]->stats(1).units_recomputed;
}

TEST(ShardSimulation, ASessionOnBreakingRingsGoesOnAsOnOneShard) {
  std::vector<Life> lives;
  for (uint64_t seed = 0; seed < 40; ++seed)
    if (auto life = make_life(seed)) lives.push_back(std::move(*life));
  ASSERT_GT(lives.size(), 20u);
  Counts counts;
  const int first = number("RINGTIDE_FIRST_SCHEDULE", 0);
  const int schedules = number("RINGTIDE_SCHEDULES", 2000);
  for (int seed = first; seed < first + schedules; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    live(lives[seed % lives.size()], seed, counts);
    if (HasFailure()) break;
  }
  RecordProperty("faults", counts.faults);
  RecordProperty("kills", counts.kills);
  RecordProperty("restores", counts.restores);
  RecordProperty("tokens", counts.tokens);
  RecordProperty("rebuilt", std::to_string(counts.rebuilt));
  if (schedules < 500) return;
  EXPECT_GT(counts.kills, schedules / 10);
  EXPECT_GT(counts.rebuilt, schedules / 10);  // of the units lost
}

}  // namespace
}  // namespace ringtide::testing
