// What every engine has to do, over each that is instantiated (engine_instances.h).
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "tests/model/engine_instances.h"

namespace ringtide::testing {
namespace {

TEST_P(AnyEngine, EqualsTheDefinitionOfEachPolicyAtAnyLength) {
  std::mt19937_64 random(1);
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm})
    for (int32_t sinks : {0, 3, 8})
      for (HeadVote vote : {HeadVote::Sum, HeadVote::Softmax}) {
        if (policy != PolicyKind::InfLlm && vote == HeadVote::Sum) continue;
        PolicyConfig p = small_policy(policy);
        p.sinks = sinks;
        p.vote = vote;
        for (int i = 0; i < 4; ++i) {
          const int64_t n = 1 + static_cast<int64_t>(random() % 180);
          bool sound = false;
          EXPECT_LT(off(p, random_tokens(random(), n), &sound), kind.tolerance)
              << to_string(policy) << " sinks " << sinks << " length " << n;
          EXPECT_TRUE(sound);
        }
      }
}

TEST_P(AnyEngine, WithinTheWindowEveryPolicyIsFullAttention) {
  const auto tokens = random_tokens(3, 32);
  std::vector<float> full;
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    Runner r = open(1, small_policy(policy));
    r.append(tokens);
    r.finish_prompt();
    const auto logits = r.logits();
    if (full.empty()) full = logits;
    double off = kind.tolerance;
    if (kind.exact_apart)
      for (const float x : full) off = std::max(off, kind.tolerance * std::abs(x));
    for (size_t i = 0; i < full.size(); ++i) EXPECT_NEAR(logits[i], full[i], off);
    engine->close(1);
  }
}

TEST_P(AnyEngine, BudgetOfEverythingAtTruePositionsIsFullAttention) {
  PolicyConfig all = small_policy(PolicyKind::InfLlm);
  all.select = 1000;
  all.true_positions = true;
  if (!kind.true_positions) {
    EXPECT_THROW(engine->open(1, all), model::ModelError);
    return;
  }
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
    EXPECT_LT(off(all, tokens), kind.tolerance) << n;
  }
}

TEST_P(AnyEngine, ChunksOfAnySizeGiveTheSameBitsAndUnits) {
  for (bool half : {false, true}) {
    options.half_kv = half;
    for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
      if (!kind.stores(policy)) continue;
      const auto tokens = random_tokens(11, 300);
      std::vector<float> expected;
      decltype(units.snapshot()) expected_units;
      for (int64_t chunk : {1, 7, 512, 8192}) {
        testing::MemoryUnits fresh;
        auto e = make(fresh);
        const PolicyConfig p = small_policy(policy);
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
        e->close(1);  // every sealed unit is with the store
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

TEST_P(AnyEngine, ThreadsAndBatchingDoNotChangeABit) {
  for (const PolicyConfig& p : {small_policy(PolicyKind::InfLlm), probing_policy()}) {
    if (p.unit % kind.least_unit != 0) continue;
    std::vector<std::vector<float>> results;
    for (int threads : {1, 3}) {
      options.threads = threads;
      auto e = make(units);
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

TEST_P(AnyRestore, GoesOnBitForBitWhateverTheStoreHasLost) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    if (!kind.stores(policy)) continue;
    const PolicyConfig p = small_policy(policy);
    Runner r = lived(p);
    const auto want = r.logits();
    const int64_t sealed = engine->stats(1).units;
    ASSERT_GT(sealed, 20);
    engine->close(1);
    const auto before = units.snapshot();

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

TEST_P(AnyRestore, EndsThoughNothingRebuiltIsKept) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::InfLlm}) {
    if (!kind.stores(policy)) continue;
    const PolicyConfig p = small_policy(policy);
    units.refuses = false;
    Runner r = lived(p);
    const auto want = r.logits();
    const int64_t sealed = engine->stats(1).units;
    engine->close(1);
    for (int64_t lost : {int64_t{2}, int64_t{3}, sealed / 2}) units.lose(lost);
    units.refuses = true;
    restore_and_compare(p, r, want, "a store that keeps nothing new");
    engine->close(1);
    units.clear();
  }
}

TEST_P(AnyRestore, CountsWhatItRebuilt) {
  const PolicyConfig p = small_policy(PolicyKind::InfLlm);
  Runner r = lived(p);
  const auto want = r.logits();
  engine->close(1);
  units.corrupt(2);
  units.lose(9);
  restore_and_compare(p, r, want, "two units");
  EXPECT_EQ(engine->stats(1).units_recomputed, 2);
}

TEST_P(AnyRestore, TheSmallestWindowThereIs) {
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.window = p.unit = p.block = p.sinks = p.representatives = kind.least_unit;
  Runner r = lived(p);
  const auto want = r.logits();
  restore_and_compare(p, r, want, "window of one unit");
}

// A session that leaves memory and comes back all the time is as one that stays, to the last bit of
// every unit that is stored.
TEST_P(AnyRestore, ComesAndGoesBitForBit) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    if (!kind.stores(policy)) continue;
    const PolicyConfig p = small_policy(policy);
    std::vector<float> logits[2];
    decltype(units.snapshot()) stored[2];
    for (const bool leaves : {false, true}) {
      MemoryUnits store;
      auto e = make(store);
      e->open(1, p);
      Runner r{*e, 1, BlockPlan(p.block), {}};
      std::mt19937_64 random(6);
      const auto leave = [&] {
        if (!leaves || random() % 3 > 0) return;
        e->close(1);
        EXPECT_LE(restore(*e, p, r), p.block) << to_string(policy);
        EXPECT_LE(e->stats(1).tokens_rerun, p.block);
        EXPECT_EQ(e->stats(1).units_recomputed, 0);
      };
      for (int turn = 0; turn < 8; ++turn) {
        r.append(random_tokens(turn, 1 + turn * 17 % 90));
        r.finish_prompt();
        leave();
        for (int i = 0; i < 11; ++i) {
          r.generate();
          r.run();
          leave();
        }
      }
      logits[leaves] = r.logits();
      e->close(1);
      stored[leaves] = store.snapshot();
    }
    EXPECT_EQ(logits[0], logits[1]) << to_string(policy);
    EXPECT_EQ(stored[0], stored[1]) << to_string(policy);
  }
}

// A generated token is a block. Those between two sealings come back in one pass, and find there
// what each found in a pass of its own.
TEST_P(AnyRestore, GeneratedTokensAreRunAgainTogether) {
  constexpr int kGenerated = 70;
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    if (!kind.stores(policy)) continue;
    const PolicyConfig p = small_policy(policy);
    Runner r = open(1, p);
    r.append(random_tokens(3, 37));
    r.finish_prompt();
    for (int i = 0; i < kGenerated; ++i) {
      r.generate();
      r.run();
    }
    const auto want = r.logits();
    engine->close(1);
    const auto stored = units.snapshot();
    units.clear();

    engine->restore(1, p, {r.tokens.begin(), r.tokens.begin() + r.plan.processed()},
                    r.plan.lengths());
    int passes = 1;
    while (!engine->replay(1).finished) ++passes;
    const int blocks = static_cast<int>(r.plan.lengths().size());
    if (kind.joins_blocks)
      EXPECT_LE(passes, blocks - kGenerated + kGenerated / p.unit + 3) << to_string(policy);
    else
      EXPECT_GE(passes, blocks) << to_string(policy);
    EXPECT_EQ(r.logits(), want) << to_string(policy);
    EXPECT_EQ(engine->stats(1).tokens_rerun, r.plan.processed()) << to_string(policy);
    engine->close(1);
    EXPECT_EQ(units.snapshot(), stored) << to_string(policy);
    units.clear();
  }
}

// What a process has done is stored before it ends, so that it may end at any time.
TEST_P(AnyRestore, FullPagesAreStoredWhileTheSessionGoesOn) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    if (!kind.stores(policy)) continue;
    const PolicyConfig p = small_policy(policy);
    Runner r = lived(p);
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
         !engine->hand_over() && std::chrono::steady_clock::now() < end;)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    auto other = make(units);
    EXPECT_LE(restore(*other, p, r), p.block) << to_string(policy);
    const auto got = other->logits(1);
    EXPECT_EQ(r.logits(), std::vector<float>(got.begin(), got.end()));
    other.reset();
    engine->close(1);
    units.clear();
  }
}

// A store that writes late: what it has been given must stay as it was.
class LateUnits : public MemoryUnits {
 public:
  void put(uint64_t owner, model::SealedUnit unit) override {
    const std::lock_guard lock(mutex_);  // shards put side by side, and one order is compared
    waiting_.push_back({owner, unit});
    MemoryUnits::put(owner, std::move(unit));
  }
  void expect_unchanged() {
    MemoryUnits late;
    for (auto& [owner, unit] : waiting_) late.put(owner, std::move(unit));
    EXPECT_EQ(late.snapshot(), snapshot());
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<uint64_t, model::SealedUnit>> waiting_;
};

TEST_P(AnyEngine, WhatIsStoredDoesNotChangeOnItsWay) {
  LateUnits store;
  auto e = make(store);
  const PolicyConfig p = small_policy(PolicyKind::InfLlm);
  e->open(1, p);
  Runner r{*e, 1, BlockPlan(p.block), {}};
  r.append(random_tokens(26, 300));
  r.finish_prompt();
  e->close(1);
  store.expect_unchanged();
}

// What is lost of the window is run again from there on, and counted.
TEST_P(AnyRestore, GoesOnFromBeforeALostPageOfTheWindow) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::Streaming, PolicyKind::InfLlm}) {
    if (!kind.stores(policy)) continue;
    const PolicyConfig p = small_policy(policy);
    Runner r = lived(p);
    const auto want = r.logits();
    restore_and_compare(p, r, want, "all there");
    const int64_t stands = (r.plan.processed() - engine->stats(1).tokens_rerun) / p.unit;
    for (const int64_t page : {stands - 1, stands - 2, stands - p.window / p.unit}) {
      for (const bool corrupt : {false, true}) {
        corrupt ? units.corrupt_page(page) : units.lose_page(page);
        restore_and_compare(p, r, want, "a page of the window");
        const int64_t again = engine->stats(1).tokens_rerun;
        const int64_t least = r.plan.processed() - page * p.unit;
        EXPECT_TRUE(again >= least && again <= least + p.block) << again << " of " << least;
        EXPECT_EQ(engine->stats(1).units_recomputed, corrupt);
      }
    }
    engine->close(1);
    units.clear();
  }
}

TEST_P(AnyRestore, RecomputesAUnitThatIsLostWhileItIsNeeded) {
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::InfLlm}) {
    if (policy == PolicyKind::Exact && kind.keeps_exact) continue;
    PolicyConfig p = small_policy(policy);
    // Hardly more than the least: selected units are read from the store again and again.
    const auto run = [&](bool faults) {
      testing::MemoryUnits store;
      options.ram_budget = policy == PolicyKind::Exact ? 200 << 10 : kind.least_budget;
      auto e = make(store);
      e->open(1, p);
      Runner r{*e, 1, BlockPlan(p.block), {}};
      r.append(random_tokens(21, policy == PolicyKind::Exact ? 1200 : 320));
      r.finish_prompt();
      const int64_t units = e->stats(1).units;
      e->close(1);  // forget the window; units in memory stay cached, so lose them all below
      // What finds a unit may be there without it.
      for (int64_t u = 2; faults && u < units - p.window / p.unit - 4; u += 4) store.lose_page(u);
      auto fresh = make(store);
      restore(*fresh, p, r);
      Runner again{*fresh, 1, r.plan, r.tokens};
      if (faults)
        for (int64_t u = 1; u < units; u += 2) u % 4 == 1 ? store.corrupt(u) : store.lose(u);
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
    EXPECT_GT(recomputed, 0) << to_string(policy);
    EXPECT_EQ(want, got) << to_string(policy);
  }
}

TEST_P(AnyEngine, MemoryStaysWithinTheBudgetAndItsSizeChangesNoBit) {
  std::vector<std::vector<float>> results;
  for (PolicyKind policy : {PolicyKind::Exact, PolicyKind::InfLlm})
    for (int64_t budget : {kind.small_budget, int64_t{64} << 20}) {
      testing::MemoryUnits store;
      options.ram_budget = budget;
      auto e = make(store);
      const PolicyConfig p = small_policy(policy);
      e->open(1, p);
      Runner r{*e, 1, BlockPlan(p.block), {}};
      const auto tokens = random_tokens(2, 3000);
      for (size_t i = 0; i < tokens.size(); i += 250) {
        r.append(std::span(tokens).subspan(i, 250));
        EXPECT_LE(e->stats().ram_used, budget);
      }
      r.finish_prompt();
      const bool all_here = policy == PolicyKind::Exact && kind.keeps_exact;
      EXPECT_EQ(e->stats(1).reads_store > 0, budget < (1 << 20) && !all_here);
      results.push_back(r.logits());
    }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[2], results[3]);
}

TEST_P(AnyEngine, ANewBlockMustNotCrossABoundary) {
  engine->open(1, small_policy(PolicyKind::InfLlm));
  const auto tokens = random_tokens(1, 17);
  EXPECT_THROW(engine->prefill(1, tokens), std::logic_error);
}

}  // namespace
}  // namespace ringtide::testing
