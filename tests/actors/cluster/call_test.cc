// Calls as values: over the wire and back, and what two sides remember of them.
#include "actors/cluster/call.h"

#include <gtest/gtest.h>

#include "tests/support/fake_engine.h"

namespace ringtide::actors::cluster {
namespace {

using Op = Call::Op;

Call call(Op op, std::vector<model::ContextId> contexts, std::vector<model::TokenId> tokens = {}) {
  Call c;
  c.op = op;
  c.contexts = std::move(contexts);
  c.tokens = std::move(tokens);
  return c;
}

Call sample_of(model::ContextId id, uint64_t seed) {
  Call c = call(Op::Sample, {id});
  c.sampling = {{.temperature = 1, .seed = seed}};
  return c;
}

// Two sides, each with an engine; the second gets what the first issues.
class LedgerTest : public ::testing::Test {
 protected:
  struct Side {
    std::unique_ptr<model::Engine> engine;
    Ledger ledger;
  };
  void both(Call c) {
    leader.ledger.issue(c, *leader.engine);
    leader.ledger.run(c, *leader.engine);
    const Call got = decode(encode(c));
    shard.ledger.check(got, *shard.engine);
    shard.ledger.run(got, *shard.engine);
  }
  testing::FakeWorld world;
  Side leader{world.make(), {}}, shard{world.make(), {}};
};

TEST(CallBytes, EveryFieldComesBack) {
  Call c = call(Op::Restore, {1, uint64_t{1} << 60}, {5, -3, 1 << 30});
  c.number = 9, c.before = ~uint64_t{0};
  c.positions = {-1, int64_t{1} << 50};
  c.policy = {.kind = model::PolicyKind::Streaming,
              .window = 1,
              .sinks = 2,
              .unit = 3,
              .block = 4,
              .select = 5,
              .representatives = 6,
              .vote = model::HeadVote::Sum,
              .probe = 7,
              .true_positions = true};
  c.lengths = {1, 2};
  c.sampling = {{.temperature = 0.5f,
                 .top_k = 3,
                 .top_p = 0.25f,
                 .min_p = 0.125f,
                 .repetition_penalty = 1.5f,
                 .penalty_window = 8,
                 .seed = 77}};
  const Call d = decode(encode(c));
  EXPECT_EQ(d.op, c.op);
  EXPECT_EQ(d.number, c.number);
  EXPECT_EQ(d.before, c.before);
  EXPECT_EQ(d.contexts, c.contexts);
  EXPECT_EQ(d.positions, c.positions);
  EXPECT_EQ(d.policy, c.policy);
  EXPECT_EQ(d.tokens, c.tokens);
  EXPECT_EQ(d.lengths, c.lengths);
  ASSERT_EQ(d.sampling.size(), 1u);
  EXPECT_EQ(d.sampling[0].temperature, 0.5f);
  EXPECT_EQ(d.sampling[0].top_k, 3);
  EXPECT_EQ(d.sampling[0].top_p, 0.25f);
  EXPECT_EQ(d.sampling[0].min_p, 0.125f);
  EXPECT_EQ(d.sampling[0].repetition_penalty, 1.5f);
  EXPECT_EQ(d.sampling[0].penalty_window, 8);
  EXPECT_EQ(d.sampling[0].seed, 77u);
}

TEST(CallBytes, WhatIsCutShortOrTooLongIsNoCall) {
  const std::vector<char> bytes = encode(call(Op::Prefill, {1}, {1, 2, 3}));
  for (size_t n = 0; n < bytes.size(); ++n)
    EXPECT_THROW(decode(std::span(bytes).first(n)), std::runtime_error) << n;
  std::vector<char> longer = bytes;
  longer.push_back(0);
  EXPECT_THROW(decode(longer), std::runtime_error);
}

TEST_F(LedgerTest, BothSidesSayTheSame) {
  both(call(Op::Open, {1}));
  both(call(Op::Prefill, {1}, {1, 2, 3}));
  both(sample_of(1, 5));
  EXPECT_EQ(leader.ledger.sampled(), shard.ledger.sampled());
  both(call(Op::Decode, {1}, leader.ledger.sampled()));
  Call restore = call(Op::Restore, {2}, {1, 2, 3, 4});
  restore.lengths = {3, 1};
  both(restore);
  both(call(Op::Replay, {2}));
  EXPECT_FALSE(leader.ledger.replay().finished);
  both(call(Op::Replay, {2}));
  EXPECT_TRUE(shard.ledger.replay().finished);
  both(call(Op::Decode, {1, 2}, {7, 8}));
  both(call(Op::Close, {1}));
  EXPECT_FALSE(shard.engine->has(1));
}

TEST_F(LedgerTest, ARefusalIsAnOutcomeOfBoth) {
  world.max_contexts = 1;
  both(call(Op::Open, {1}));
  Call more = call(Op::Open, {2});
  leader.ledger.issue(more, *leader.engine);
  EXPECT_THROW(leader.ledger.run(more, *leader.engine), model::OutOfBudget);
  shard.ledger.check(more, *shard.engine);
  EXPECT_THROW(shard.ledger.run(more, *shard.engine), model::OutOfBudget);
  both(call(Op::Prefill, {1}, {1}));
}

TEST_F(LedgerTest, ARefusalOfOneSideOnlyIsFound) {
  world.max_contexts = 2;
  shard.engine->open(99, {});  // room that the leader does not miss
  both(call(Op::Open, {1}));
  Call more = call(Op::Open, {2});
  leader.ledger.issue(more, *leader.engine);
  leader.ledger.run(more, *leader.engine);
  shard.ledger.check(more, *shard.engine);
  EXPECT_THROW(shard.ledger.run(more, *shard.engine), model::OutOfBudget);
  Call next = call(Op::Prefill, {2}, {1});
  leader.ledger.issue(next, *leader.engine);
  EXPECT_THROW(shard.ledger.check(next, *shard.engine), Diverged);
}

TEST_F(LedgerTest, ACallOutOfItsTurnIsRefused) {
  Call first = call(Op::Open, {1}), second = call(Op::Prefill, {1}, {1});
  leader.ledger.issue(first, *leader.engine);
  leader.ledger.run(first, *leader.engine);
  leader.ledger.issue(second, *leader.engine);
  EXPECT_THROW(shard.ledger.check(second, *shard.engine), Diverged);
  shard.ledger.check(first, *shard.engine);
  shard.ledger.run(first, *shard.engine);
  EXPECT_THROW(shard.ledger.check(first, *shard.engine), Diverged);
  shard.ledger.check(second, *shard.engine);
}

TEST_F(LedgerTest, AContextElsewhereIsFound) {
  both(call(Op::Open, {1}));
  shard.engine->prefill(1, std::vector<model::TokenId>{4});
  Call next = call(Op::Prefill, {1}, {1});
  leader.ledger.issue(next, *leader.engine);
  try {
    shard.ledger.check(next, *shard.engine);
    FAIL();
  } catch (const Diverged& error) {
    EXPECT_STREQ(error.what(), "call 1 finds context 1 at token 1, not where the leader has it");
  }
}

TEST_F(LedgerTest, AnotherTokenIsFound) {
  both(call(Op::Open, {1}));
  both(call(Op::Prefill, {1}, {1, 2, 3}));
  Call one = sample_of(1, 5);
  leader.ledger.issue(one, *leader.engine);
  leader.ledger.run(one, *leader.engine);
  Call other = one;
  other.sampling[0].seed = 6;
  shard.ledger.check(other, *shard.engine);
  shard.ledger.run(other, *shard.engine);
  ASSERT_NE(leader.ledger.sampled(), shard.ledger.sampled());
  Call next = call(Op::Close, {1});
  leader.ledger.issue(next, *leader.engine);
  EXPECT_THROW(shard.ledger.check(next, *shard.engine), Diverged);
}

}  // namespace
}  // namespace ringtide::actors::cluster
