// The CPU engine: what every engine does, and what only this one does, as groups of its index.
#include "tests/model/engine_instances.h"

namespace ringtide::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(Cpu, AnyEngine, ::testing::Values(cpu_kind()));
INSTANTIATE_TEST_SUITE_P(Cpu, AnyRestore, ::testing::Values(cpu_kind()));

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

TEST_F(RestoreTest, AsksTheStoreFewQuestions) {
  const PolicyConfig p = probing_policy();
  Runner r = lived(p, 300);
  ASSERT_GT(units.pages(), 500);
  engine->close(1);
  units.questions = 0;
  restore(*engine, p, r);
  EXPECT_LE(units.questions, 5);
}

// A store that lets a test look whenever one of the first `looked_at` units is put.
class WatchedUnits : public testing::MemoryUnits {
 public:
  void put(uint64_t owner, model::SealedUnit unit) override {
    if (unit.kind != model::SealedUnit::Kind::Group && unit.number < looked_at) look();
    MemoryUnits::put(owner, std::move(unit));
  }
  int64_t looked_at = 0;
  std::function<void()> look;
};

TEST_F(EngineTest, UnitsAreMadeAgainWithinTheBudget) {
  PolicyConfig p = probing_policy();
  p.window = 256;
  const auto tokens = random_tokens(25, 2000);
  engine->open(1, p);
  for (size_t i = 0; i < tokens.size(); i += p.block)
    engine->prefill(1, std::span(tokens).subspan(i, p.block));
  const int64_t window = engine->stats(1).window_bytes;
  const int64_t grown = engine->stats(1).index_bytes;

  WatchedUnits store;
  options.ram_elsewhere = window;
  options.ram_budget = options.ram_elsewhere + 3 * window + 2 * grown;
  const int64_t budget = options.ram_budget - options.ram_elsewhere;
  auto e = model::make_cpu_engine(m.model, options, store);
  e->open(1, p);
  Runner r{*e, 1, BlockPlan(p.block), {}};
  r.append(std::span(tokens).first(1900));
  EXPECT_LE(e->stats().ram_used, budget);
  EXPECT_GT(e->stats().ram_used, budget - window);  // a window more would be too much
  const int64_t units = (e->stats(1).tokens - p.window) / p.unit;  // that have left it
  for (int64_t u = 1; u < units; ++u) store.lose(u);
  int looks = 0;
  int64_t most = 0;
  store.looked_at = units;
  store.look = [&] {
    ++looks;
    most = std::max(most, e->stats().ram_used + window);  // of the context that makes them
  };
  r.append(std::span(tokens).subspan(1900));
  EXPECT_GT(e->stats(1).units_recomputed, 0);
  EXPECT_GT(looks, 0);
  EXPECT_LE(most, budget);
}

TEST_F(EngineTest, ALongContextHoldsLittleOfEachToken) {
  const PolicyConfig p = probing_policy();
  engine->open(1, p);
  const int64_t summaries = 2 * 4 * 16 * 4 * m.config.layers;  // of a group, 128 tokens here
  const auto tokens = random_tokens(24, 8192 * 2 + 8);
  for (size_t i = 0; i < tokens.size(); i += p.block)
    engine->prefill(1, std::span(tokens).subspan(i, p.block));
  // Tokens, block ends and keys, an eighth more; summaries come in blocks of 64.
  const double each = (4.0 + 8.0 / p.block + 32.0 / p.unit) * 9 / 8;
  EXPECT_LE(static_cast<double>(engine->stats(1).index_bytes),
            each * static_cast<double>(tokens.size()) + 4096 + (128.0 + 63) * summaries);
  EXPECT_GE(engine->stats(1).index_bytes, 128 * summaries);
}

TEST_F(EngineTest, RefusesWhatDoesNotFit) {
  options.ram_budget = 1 << 20;
  auto e = make(units);
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

}  // namespace
}  // namespace ringtide::testing
