// Rings of GPUs over devices of plain loops.
#include <atomic>
#include <thread>

#include "kernels/ring/transport.h"
#include "tests/model/gpu_ring_kind.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/fake_ring.h"

namespace ringtide::testing {
namespace {

constexpr int64_t kMemory = int64_t{64} << 20;

std::shared_ptr<kernels::Gpu> fake(int) { return make_fake_gpu(kMemory); }

INSTANTIATE_TEST_SUITE_P(
    FakeGpu, GpuRing,
    ::testing::Values(gpu_ring_kind("OneFakeGpu", 1, fake), gpu_ring_kind("TwoFakeGpus", 2, fake),
                      gpu_ring_kind("TwoFakeGpusPassingQ", 2, fake, kernels::ring::Mode::PassQ),
                      gpu_ring_kind("ThreeFakeGpus", 3, fake),
                      gpu_ring_kind("FourFakeGpus", 4, fake)));

INSTANTIATE_TEST_SUITE_P(FakeGpuRing, AnyEngine,
                         ::testing::Values(gpu_ring_of_all("ThreeFakeGpus", 3, fake, 192)));
INSTANTIATE_TEST_SUITE_P(FakeGpuRing, AnyRestore,
                         ::testing::Values(gpu_ring_of_all("TwoFakeGpus", 2, fake),
                                           gpu_ring_of_all("ThreeFakeGpus", 3, fake)));
INSTANTIATE_TEST_SUITE_P(FakeGpuRing, GpuEngine,
                         ::testing::Values(gpu_ring_of_all("TwoFakeGpus", 2, fake)));

// Under `infllm`: an engine of one GPU, or of a ring.
struct FakeGpuUnits : ::testing::Test {
  SmallModel m = small_model(7, gpu_kind("", [] { return fake(0); }).shape);
  EngineOptions options = [] {
    EngineOptions o;
    o.ram_budget = 64 << 20;
    return o;
  }();
  std::unique_ptr<Engine> make(int gpus, MemoryUnits& units) {
    const EngineKind kind = gpus == 1 ? gpu_kind("", [] { return fake(0); })
                                      : gpu_ring_of_all("", gpus, fake);
    return kind.make(m.model, options, units);
  }
  static PolicyConfig policy() {
    PolicyConfig p = small_policy(PolicyKind::InfLlm);
    p.select = 4;
    return p;
  }
};

// Choices are among all units there are, whichever GPU has them.
TEST_F(FakeGpuUnits, TokensAndChosenUnitsAreThoseOfOneGpu) {
  std::vector<Told> told;
  std::vector<int64_t> puts, host, awaited;
  for (const int gpus : {1, 2, 3}) {
    MemoryUnits units;
    const auto engine = make(gpus, units);
    engine->open(1, policy());
    Runner r{*engine, 1, BlockPlan(policy().block), {}};
    told.push_back(tell(*engine, r, {300, 17, 170}));
    const auto stats = engine->stats(1);
    awaited.push_back(engine->units_awaited(1));
    EXPECT_EQ(stats.reads_store, 0);
    EXPECT_EQ(stats.units_selected, stats.reads_ram);
    engine->close(1);
    puts.push_back(units.puts);
    host.push_back(engine->stats().ram_used);
  }
  ASSERT_GT(told[0].units.back().size(), 3u);
  for (const size_t i : {1, 2}) {
    EXPECT_EQ(told[i].tokens, told[0].tokens);
    EXPECT_EQ(told[i].units, told[0].units);
    // Each unit is held, put and copied by one of them.
    EXPECT_EQ(host[i], host[0]);
    EXPECT_EQ(puts[i], puts[0]);
    EXPECT_GT(awaited[i], 0);
  }
}

// What one number of GPUs has stored another goes on with.
TEST_F(FakeGpuUnits, RingsOfAnySizeGoOnWithTheSameStore) {
  MemoryUnits units, others;
  const auto all_along = make(1, others);
  all_along->open(1, policy());
  Runner want{*all_along, 1, BlockPlan(policy().block), {}};
  Runner r = want;
  std::unique_ptr<Engine> engine;
  for (const int gpus : {2, 3, 1, 2}) {
    const int64_t before = r.plan.processed();
    auto next = make(gpus, units);
    if (engine) {
      engine.reset();
      next->restore(1, policy(), {r.tokens.begin(), r.tokens.begin() + before}, r.plan.lengths());
      while (!next->replay(1).finished) {
      }
        EXPECT_LE(next->stats(1).tokens_rerun, policy().block);
      EXPECT_EQ(next->stats(1).units_recomputed, 0);
    } else {
      next->open(1, policy());
    }
    engine = std::move(next);
    Runner now{*engine, 1, r.plan, r.tokens};
    const Told got = tell(*engine, now, {150});
    const Told expected = tell(*all_along, want, {150});
    EXPECT_EQ(got.tokens, expected.tokens) << gpus;
    EXPECT_EQ(got.units, expected.units) << gpus;
    r.plan = now.plan;
    r.tokens = now.tokens;
  }
}

// A store that once tells one reader alone that a page is not there.
class OnceAbsent : public MemoryUnits {
 public:
  void read(std::span<model::PartRead> reads) override {
    MemoryUnits::read(reads);
    if (!reads.empty() && armed.exchange(false)) reads[0].outcome = model::ReadOutcome::Absent;
  }
  std::atomic<bool> armed = false;
};

TEST_F(FakeGpuUnits, WhatOneShardCannotReadAllMakeAgain) {
  OnceAbsent units;
  auto engine = make(3, units);
  engine->open(1, policy());
  Runner r{*engine, 1, BlockPlan(policy().block), {}};
  tell(*engine, r, {200});
  const auto want = r.logits();
  engine = make(3, units);
  units.armed = true;
  engine->restore(1, policy(), {r.tokens.begin(), r.tokens.begin() + r.plan.processed()},
                  r.plan.lengths());
  while (!engine->replay(1).finished) {
  }
  EXPECT_FALSE(units.armed);
  EXPECT_EQ(engine->stats(1).units_recomputed, 1);
  const auto got = engine->logits(1);
  EXPECT_EQ(want, std::vector<float>(got.begin(), got.end()));
}

// Shards that hold hardly anything in memory read their own units from the store, each its part.
TEST_F(FakeGpuUnits, UnitsOfTheStoreAreReadByTheirShards) {
  std::vector<Told> told;
  for (const int64_t budget : {64 << 20, 60 << 10}) {
    options.ram_budget = budget;
    MemoryUnits units;
    const auto engine = make(2, units);
    engine->open(1, policy());
    Runner r{*engine, 1, BlockPlan(policy().block), {}};
    told.push_back(tell(*engine, r, {600}));
    EXPECT_EQ(engine->stats(1).reads_store > 0, told.size() == 2);
  }
  EXPECT_EQ(told[0].tokens, told[1].tokens);
  EXPECT_EQ(told[0].units, told[1].units);
}

// A ring of which all memory is for sessions of the other kind.
TEST_F(FakeGpuUnits, ARingWithoutRoomForAPolicyRefusesIt) {
  options.gpu_memory = kMemory;
  options.pass_tokens = 64;
  for (const double share : {0.0, 1.0}) {
    MemoryUnits units;
    const auto engine = model::make_gpu_ring_engine(2, fake, m.model, options,
                                                    {.exact_share = share}, units);
    const PolicyKind served = share == 1 ? PolicyKind::Exact : PolicyKind::Streaming;
    const PolicyKind refused = share == 1 ? PolicyKind::InfLlm : PolicyKind::Exact;
    engine->open(1, small_policy(served));
    EXPECT_THROW(engine->open(2, small_policy(refused)), model::ModelError);
    EXPECT_TRUE(engine->has(1));
    EXPECT_FALSE(engine->has(2));
  }
}

// Whether the rows of a pass are shared changes no bit.
TEST(FakeGpuRing, HasTheSameBitsWhetherRowsAreShared) {
  std::vector<std::vector<float>> logits;
  for (const int32_t pass_tokens : {64, 192}) {
    const EngineKind kind = gpu_ring_of_all("", 3, fake, pass_tokens);
    const SmallModel m = small_model(3, kind.shape);
    MemoryUnits units;
    EngineOptions options;
    options.ram_budget = 64 << 20;
    const auto engine = kind.make(m.model, options, units);
    const PolicyConfig p = small_policy(PolicyKind::InfLlm);
    engine->open(1, p);
    Runner r{*engine, 1, BlockPlan(p.block), {}};
    r.append(random_tokens(4, 400));
    r.finish_prompt();
    logits.push_back(r.logits());
  }
  EXPECT_EQ(logits[0], logits[1]);
}

TEST(FakeGpuRing, HasTheSameBitsWhicheverPasses) {
  const auto logits = logits_either_way(fake);
  EXPECT_EQ(logits[0], logits[1]);
}

struct Shards : RestoreTest {
  Shards() : RestoreTest(gpu_ring_kind("", 1, fake).shape, gpu_ring_kind("", 1, fake)) {}

  // body(engine, shard) on each of two shards; what it threw.
  std::vector<std::string> run(std::chrono::milliseconds deadline,
                               const std::function<void(Engine&, int)>& body) {
    const auto ring = make_fake_ring(2, deadline, int64_t{1} << 20);
    options.gpu_memory = kMemory;
    options.pass_tokens = 1024;
    std::vector<std::string> thrown(2);
    std::vector<std::thread> threads;
    for (int s = 0; s < 2; ++s) {
      threads.emplace_back([&, s] {
        try {
          const auto e =
              model::make_gpu_shard_engine(fake(s), m.model, options, {}, ring->at(s), units);
          body(*e, s);
        } catch (const kernels::ring::RingError& e) {
          thrown[s] = e.what();
        }
      });
    }
    for (auto& t : threads) t.join();
    return thrown;
  }
  static PolicyConfig policy() {
    PolicyConfig p;
    p.kind = PolicyKind::Exact;
    p.window = p.block = 512;
    return p;
  }
};

// Both ways of a pass, and one under another policy.
TEST_F(Shards, AShardThatFallsSilentEndsInAnErrorOfTheOther) {
  for (const auto& [tokens, kind] : {std::pair(5, PolicyKind::Exact), {600, PolicyKind::Exact},
                                     {5, PolicyKind::InfLlm}, {600, PolicyKind::InfLlm}}) {
    const auto text = random_tokens(1, tokens);
    const auto thrown = run(std::chrono::milliseconds(100), [&](Engine& e, int shard) {
      PolicyConfig p = policy();
      p.kind = kind;
      e.open(1, p);
      const std::vector<int32_t> lengths =
          tokens > 512 ? std::vector<int32_t>{512, 88} : std::vector<int32_t>{5};
      if (shard == 0) e.prefill(1, text, lengths);
    });
    EXPECT_NE(thrown[0].find("within 100 ms"), std::string::npos) << thrown[0];
    EXPECT_EQ(thrown[1], "");
  }
}

TEST_F(Shards, APassThatFailsClosesItsContext) {
  run(std::chrono::milliseconds(100), [&](Engine& e, int shard) {
    e.open(1, policy());
    if (shard == 1) return;
    EXPECT_THROW(e.prefill(1, random_tokens(1, 5)), kernels::ring::RingError);
    EXPECT_FALSE(e.has(1));
  });
}

}  // namespace
}  // namespace ringtide::testing
