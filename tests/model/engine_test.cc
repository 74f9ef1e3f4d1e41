#include "model/engine.h"

#include <cstring>

#include "tests/model/engine_fixture.h"

namespace ringtide::testing {
namespace {

TEST_F(EngineTest, EqualsTheDefinitionOfEachPolicyAtAnyLength) {
  std::mt19937_64 random(1);
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm})
    for (int32_t sinks : {0, 3, 8})
      for (HeadVote vote : {HeadVote::Sum, HeadVote::Softmax}) {
        if (kind != PolicyKind::InfLlm && vote == HeadVote::Sum) continue;
        PolicyConfig p = small_policy(kind);
        p.sinks = sinks;
        p.vote = vote;
        for (int i = 0; i < 4; ++i) {
          const int64_t n = 1 + static_cast<int64_t>(random() % 180);
          bool sound = false;
          EXPECT_LT(off(p, random_tokens(random(), n), &sound), kFloat)
              << to_string(kind) << " sinks " << sinks << " length " << n;
          EXPECT_TRUE(sound);
        }
      }
}

TEST_F(EngineTest, EqualsTheDefinitionWhereGroupsAreChosen) {
  std::mt19937_64 random(8);
  for (int32_t sinks : {0, 1, 2})
    for (HeadVote vote : {HeadVote::Sum, HeadVote::Softmax})
      for (int32_t probe : {1, 3}) {
        PolicyConfig p = probing_policy();
        p.sinks = sinks;
        p.vote = vote;
        p.probe = probe;
        const int64_t n = 500 + static_cast<int64_t>(random() % 300);
        bool sound = false;
        EXPECT_LT(off(p, random_tokens(random(), n), &sound), kFloat)
            << "sinks " << sinks << " probe " << probe << " length " << n;
        EXPECT_TRUE(sound);
      }
}

TEST_F(EngineTest, WithinTheWindowEveryPolicyIsFullAttention) {
  const auto tokens = random_tokens(3, 32);
  std::vector<float> full;
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    Runner r = open(1, small_policy(kind));
    r.append(tokens);
    r.finish_prompt();
    const auto logits = r.logits();
    if (full.empty()) full = logits;
    for (size_t i = 0; i < full.size(); ++i) EXPECT_NEAR(logits[i], full[i], 1e-4);
    engine->close(1);
  }
}

TEST_F(EngineTest, BudgetOfEverythingAtTruePositionsIsFullAttention) {
  PolicyConfig all = small_policy(PolicyKind::InfLlm);
  all.select = 1000;
  all.true_positions = true;
  PolicyConfig exact = small_policy(PolicyKind::Exact);
  for (int64_t n : {33, 100, 257, 400}) {
    const auto tokens = random_tokens(n, n);
    std::vector<std::vector<float>> logits;
    for (const PolicyConfig& p : {all, exact}) {
      Runner r = open(1, p);
      r.append(tokens);
      r.finish_prompt();
      logits.push_back(r.logits());
      engine->close(1);
    }
    for (size_t i = 0; i < logits[0].size(); ++i) EXPECT_NEAR(logits[0][i], logits[1][i], 2e-4);
    EXPECT_LT(off(all, tokens), kFloat) << n;
  }
}

TEST_F(EngineTest, ChunksOfAnySizeGiveTheSameBitsAndUnits) {
  for (bool half : {false, true}) {
    options.half_kv = half;
    for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
      const auto tokens = random_tokens(11, 300);
      std::vector<float> expected;
      decltype(units.snapshot()) expected_units;
      for (int64_t chunk : {1, 7, 512, 8192}) {
        testing::MemoryUnits fresh;
        auto e = model::make_cpu_engine(m.model, options, fresh);
        const PolicyConfig p = small_policy(kind);
        e->open(1, p);
        Runner r{*e, 1, BlockPlan(p.block), {}};
        for (int64_t i = 0; i < 300; i += chunk)
          r.append(std::span(tokens).subspan(i, std::min<int64_t>(chunk, 300 - i)));
        r.finish_prompt();
        for (int i = 0; i < 20; ++i) {
          r.generate();
          r.run();
        }
        const auto logits = r.logits();
        if (expected.empty()) {
          expected = logits;
          expected_units = fresh.snapshot();
          EXPECT_GT(expected_units.size(), 30u);
        }
        EXPECT_EQ(std::memcmp(expected.data(), logits.data(), logits.size() * sizeof(float)), 0);
        EXPECT_EQ(expected_units, fresh.snapshot());
      }
    }
  }
}

TEST_F(EngineTest, ChunksOfAnySizeGiveTheSameBitsAndGroups) {
  for (bool half : {false, true}) {
    options.half_kv = half;
    const auto tokens = random_tokens(12, 700);
    std::vector<float> expected;
    decltype(units.snapshot()) expected_units;
    for (int64_t chunk : {1, 9, 700}) {
      testing::MemoryUnits fresh;
      auto e = model::make_cpu_engine(m.model, options, fresh);
      e->open(1, probing_policy());
      Runner r{*e, 1, BlockPlan(probing_policy().block), {}};
      for (int64_t i = 0; i < 700; i += chunk)
        r.append(std::span(tokens).subspan(i, std::min<int64_t>(chunk, 700 - i)));
      r.finish_prompt();
      const auto logits = r.logits();
      if (expected.empty()) {
        expected = logits;
        expected_units = fresh.snapshot();
        EXPECT_EQ(fresh.groups(), 5);
      }
      EXPECT_EQ(expected, logits);
      EXPECT_EQ(expected_units, fresh.snapshot());
    }
  }
}

TEST_F(EngineTest, ThreadsAndBatchingDoNotChangeABit) {
  for (const PolicyConfig& p : {small_policy(PolicyKind::InfLlm), probing_policy()}) {
    std::vector<std::vector<float>> results;
    for (int threads : {1, 3}) {
      options.threads = threads;
      auto e = model::make_cpu_engine(m.model, options, units);
      std::vector<Runner> runners;
      for (model::ContextId id : {1, 2, 3}) {
        e->open(id, p);
        runners.push_back({*e, id, BlockPlan(p.block), {}});
        runners.back().append(random_tokens(id, (p.unit == 2 ? 500 : 70) + 13 * id));
        runners.back().finish_prompt();
      }
      for (int step = 0; step < 12; ++step) {
        std::vector<model::DecodeRow> rows;
        for (Runner& r : runners) rows.push_back({r.id, r.generate()});
        if (threads == 1) {
          for (const auto& row : rows) e->decode({&row, 1});
        } else {
          e->decode(rows);
        }
        for (Runner& r : runners) r.plan.taken(r.plan.next());
      }
      for (Runner& r : runners) results.push_back(r.logits());
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(results[i], results[i + 3]);
  }
}

TEST_F(RestoreTest, GoesOnBitForBitWhateverTheStoreHasLost) {
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    const PolicyConfig p = small_policy(kind);
    Runner r = lived(p);
    const auto want = r.logits();
    const auto before = units.snapshot();
    const int64_t sealed = engine->stats(1).units;
    ASSERT_GT(sealed, 20);

    restore_and_compare(p, r, want, "all units stored");
    for (int64_t lost : {int64_t{0}, int64_t{1}, sealed / 2, sealed - 1}) {
      units.lose(lost);
      restore_and_compare(p, r, want, "one unit deleted");
      units.corrupt(lost);
      restore_and_compare(p, r, want, "one unit corrupt");
    }
    for (int64_t lost = 3; lost < sealed; lost += 5) units.lose(lost);
    restore_and_compare(p, r, want, "many units deleted");
    units.clear();
    restore_and_compare(p, r, want, "no unit left");
    // What was rebuilt is what was there, bit for bit.
    for (const auto& [key, parts] : units.snapshot()) EXPECT_EQ(before.at(key), parts);
    engine->close(1);
    units.clear();
  }
}

TEST_F(RestoreTest, GoesOnBitForBitWhateverGroupsTheStoreHasLost) {
  const PolicyConfig p = probing_policy();
  Runner r = lived(p, 150);
  const auto want = r.logits();
  const auto before = units.snapshot();
  ASSERT_EQ(units.groups(), 5);

  restore_and_compare(p, r, want, "all stored");
  EXPECT_EQ(engine->stats(1).groups_remade, 0);
  for (int64_t lost : {0, 2, 4}) {
    units.lose_group(lost);
    restore_and_compare(p, r, want, "one group deleted");
    units.corrupt_group(lost);
    restore_and_compare(p, r, want, "one group corrupt");
    EXPECT_EQ(engine->stats(1).groups_remade, 1);
    EXPECT_EQ(engine->stats(1).units_recomputed, 0);
  }
  for (int64_t g = 0; g < 5; ++g) units.lose_group(g);
  restore_and_compare(p, r, want, "all groups deleted");
  EXPECT_EQ(engine->stats(1).groups_remade, 5);
  units.lose_group(1);
  for (int64_t u = 70; u < 90; ++u) u % 2 ? units.lose(u) : units.corrupt(u);
  restore_and_compare(p, r, want, "a group and some of its units");
  EXPECT_GT(engine->stats(1).units_recomputed, 0);
  units.clear();
  restore_and_compare(p, r, want, "nothing left");
  for (const auto& [key, parts] : units.snapshot()) EXPECT_EQ(before.at(key), parts);
}

TEST_F(RestoreTest, EndsThoughNothingRebuiltIsKept) {
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::InfLlm}) {
    const PolicyConfig p = small_policy(kind);
    units.refuses = false;
    Runner r = lived(p);
    const auto want = r.logits();
    const int64_t sealed = engine->stats(1).units;
    for (int64_t lost : {int64_t{2}, int64_t{3}, sealed / 2}) units.lose(lost);
    units.refuses = true;
    restore_and_compare(p, r, want, "a store that keeps nothing new");
    engine->close(1);
    units.clear();
  }
}

TEST_F(RestoreTest, CountsWhatItRebuilt) {
  const PolicyConfig p = small_policy(PolicyKind::InfLlm);
  Runner r = lived(p);
  const auto want = r.logits();
  units.corrupt(2);
  units.lose(9);
  restore_and_compare(p, r, want, "two units");
  EXPECT_EQ(engine->stats(1).units_recomputed, 2);
}

TEST_F(RestoreTest, TheSmallestWindowThereIs) {
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.window = p.unit = p.block = p.sinks = p.representatives = 1;
  Runner r = lived(p);
  const auto want = r.logits();
  restore_and_compare(p, r, want, "window of one token");
}

TEST_F(RestoreTest, UsesStoredUnitsRatherThanRunningAgain) {
  const PolicyConfig p = small_policy(PolicyKind::InfLlm);
  Runner r = lived(p);
  engine->close(1);
  EXPECT_LE(restore(*engine, p, r), p.window + 2 * p.block);
}

TEST_F(RestoreTest, RecomputesAUnitThatIsLostWhileItIsNeeded) {
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::InfLlm}) {
    PolicyConfig p = small_policy(kind);
    // Hardly more than the least: selected units are read from the store again and again.
    const auto run = [&](bool faults) {
      testing::MemoryUnits store;
      options.ram_budget = (kind == PolicyKind::Exact ? 176 : 256) << 10;
      auto e = model::make_cpu_engine(m.model, options, store);
      e->open(1, p);
      Runner r{*e, 1, BlockPlan(p.block), {}};
      r.append(random_tokens(21, 320));
      r.finish_prompt();
      e->close(1);  // forget the window; units in memory stay cached, so lose them all below
      auto fresh = model::make_cpu_engine(m.model, options, store);
      restore(*fresh, p, r);
      Runner again{*fresh, 1, r.plan, r.tokens};
      const int64_t sealed = fresh->stats(1).units;
      if (faults)
        for (int64_t u = 1; u < sealed; u += 2) u % 4 == 1 ? store.corrupt(u) : store.lose(u);
      for (int i = 0; i < 8; ++i) {
        again.generate();
        again.run();
      }
      const auto logits = again.logits();
      return std::make_pair(logits, fresh->stats(1).units_recomputed);
    };
    const auto [want, none] = run(false);
    const auto [got, recomputed] = run(true);
    EXPECT_EQ(none, 0);
    EXPECT_GT(recomputed, 0) << to_string(kind);
    EXPECT_EQ(want, got) << to_string(kind);
  }
}

// Groups that are in the store only, while lookups look for them.
TEST_F(RestoreTest, MakesAGroupAgainThatIsLostWhileItIsNeeded) {
  const PolicyConfig p = probing_policy();
  enum class Fault { None, Groups, GroupsAndUnits, NothingIsKept };
  std::vector<std::vector<float>> results;
  for (const Fault fault :
       {Fault::None, Fault::Groups, Fault::GroupsAndUnits, Fault::NothingIsKept}) {
    testing::MemoryUnits store;
    std::unique_ptr<Engine> first = model::make_cpu_engine(m.model, options, store);
    first->open(1, p);
    Runner r{*first, 1, BlockPlan(p.block), {}};
    r.append(random_tokens(22, 900));
    r.finish_prompt();
    auto fresh = model::make_cpu_engine(m.model, options, store);
    restore(*fresh, p, r);
    Runner again{*fresh, 1, r.plan, r.tokens};
    store.refuses = fault == Fault::NothingIsKept;
    for (int64_t g = 0; g < store.groups() && fault != Fault::None; ++g)
      g % 2 ? store.corrupt_group(g) : store.lose_group(g);
    if (fault == Fault::GroupsAndUnits)
      for (int64_t u = 1; u < 64 * store.groups(); u += 7) store.lose(u);
    for (int i = 0; i < 8; ++i) {
      again.generate();
      again.run();
    }
    results.push_back(again.logits());
    EXPECT_EQ(fresh->stats(1).groups_remade > 0, fault != Fault::None);
    EXPECT_EQ(fresh->stats(1).units_recomputed > 0, fault == Fault::GroupsAndUnits);
  }
  for (size_t i = 1; i < results.size(); ++i) EXPECT_EQ(results[i], results[0]) << "fault " << i;
}

TEST_F(EngineTest, ReadsGroupsFromTheStoreWithinTheBudgetBitForBit) {
  std::vector<std::vector<float>> results;
  for (const int64_t budget : {260 << 10, 64 << 20}) {
    testing::MemoryUnits store;
    options.ram_budget = budget;
    auto e = model::make_cpu_engine(m.model, options, store);
    const PolicyConfig p = probing_policy();
    e->open(1, p);
    Runner r{*e, 1, BlockPlan(p.block), {}};
    const auto tokens = random_tokens(23, 4000);
    int64_t used = 0;
    for (size_t i = 0; i < tokens.size(); i += 200) {
      r.append(std::span(tokens).subspan(i, 200));
      used = std::max(used, e->stats().ram_used);
    }
    r.finish_prompt();
    EXPECT_LE(used, budget);
    // More than twice a lookup, so most lookups found none of their groups in memory.
    EXPECT_EQ(store.group_reads > 2 * 1000, budget < (1 << 20)) << store.group_reads;
    results.push_back(r.logits());
  }
  EXPECT_EQ(results[0], results[1]);
}

// What stays in memory of a token that is far behind.
TEST_F(EngineTest, ALongContextHoldsLittleOfEachToken) {
  const PolicyConfig p = probing_policy();
  engine->open(1, p);
  const int64_t summaries = 2 * 4 * 16 * 4 * m.config.layers;  // of a group, 128 tokens here
  const auto tokens = random_tokens(24, 8192 * 2 + 8);
  for (size_t i = 0; i < tokens.size(); i += p.block)
    engine->prefill(1, std::span(tokens).subspan(i, p.block));
  // Tokens, block ends and keys, an eighth more; summaries come in blocks of 64.
  const double each = (4.0 + 8.0 / p.block + 16.0 / p.unit) * 9 / 8;
  EXPECT_LE(static_cast<double>(engine->stats(1).index_bytes),
            each * static_cast<double>(tokens.size()) + 4096 + (128.0 + 63) * summaries);
  EXPECT_GE(engine->stats(1).index_bytes, 128 * summaries);
}

TEST_F(EngineTest, MemoryStaysWithinTheBudgetAndItsSizeChangesNoBit) {
  std::vector<std::vector<float>> results;
  for (PolicyKind kind : {PolicyKind::Exact, PolicyKind::InfLlm})
    for (int64_t budget : {600 << 10, 64 << 20}) {
      testing::MemoryUnits store;
      options.ram_budget = budget;
      auto e = model::make_cpu_engine(m.model, options, store);
      const PolicyConfig p = small_policy(kind);
      e->open(1, p);
      Runner r{*e, 1, BlockPlan(p.block), {}};
      const auto tokens = random_tokens(2, 3000);
      for (size_t i = 0; i < tokens.size(); i += 250) {
        r.append(std::span(tokens).subspan(i, 250));
        EXPECT_LE(e->stats().ram_used, budget);
      }
      r.finish_prompt();
      EXPECT_EQ(e->stats(1).reads_store > 0, budget < (1 << 20));
      results.push_back(r.logits());
    }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[2], results[3]);
}

TEST_F(EngineTest, RefusesWhatDoesNotFit) {
  options.ram_budget = 1 << 20;
  auto e = model::make_cpu_engine(m.model, options, units);
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.window = 4096;
  EXPECT_THROW(e->open(1, p), model::ModelError);  // not even alone
  EXPECT_FALSE(e->has(1));
  p.window = 1024;
  e->open(1, p);
  EXPECT_THROW(e->open(2, p), model::OutOfBudget);  // not beside the other
  e->close(1);
  e->open(2, p);
  p.window = 33;
  EXPECT_THROW(e->open(1, p), model::ModelError);
}

TEST_F(EngineTest, ANewBlockMustNotCrossABoundary) {
  engine->open(1, small_policy(PolicyKind::InfLlm));
  const auto tokens = random_tokens(1, 17);
  EXPECT_THROW(engine->prefill(1, tokens), std::logic_error);
}

}  // namespace
}  // namespace ringtide::testing
