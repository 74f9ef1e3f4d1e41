// What goes wrong on a ring ends in an error that names it, on every shard, within the deadline.
#include <cstring>

#include "kernels/ring/prefill.h"
#include "tests/kernels/ring/support.h"

namespace ringtide::kernels::ring {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using testing::Test;

std::vector<std::byte> bytes(size_t n, int value) { return {n, static_cast<std::byte>(value)}; }

TEST(InProcessRing, StepsCarryBytesToTheNextShard) {
  InProcessRing ring(3, milliseconds(5000));
  const auto thrown = on_shards(3, [&](int s) {
    for (uint64_t step = 0; step < 50; ++step) {
      // Sizes differ by shard and step; now and then one sends nothing.
      const auto size = [&](int shard) { return (step * 7 + shard * 3) % 11; };
      const auto mine = bytes(size(s), s + step);
      auto got = bytes(size((s + 2) % 3), 255);
      ring.at(s).post({step, mine, got});
      ring.at(s).wait(step);
      EXPECT_EQ(got, bytes(got.size(), (s + 2) % 3 + step));
    }
  });
  for (const auto& what : thrown) EXPECT_EQ(what, "");
}

TEST(InProcessRing, GathersInTheOrderOfShards) {
  InProcessRing ring(4, milliseconds(5000));
  const auto thrown = on_shards(4, [&](int s) {
    for (uint64_t step = 0; step < 50; ++step) {
      const uint64_t mine = 100 * step + s;
      uint64_t all[4];
      ring.at(s).gather(step, std::as_bytes(std::span(&mine, 1)),
                        std::as_writable_bytes(std::span(all)));
      for (int i = 0; i < 4; ++i) EXPECT_EQ(all[i], 100 * step + i);
    }
  });
  for (const auto& what : thrown) EXPECT_EQ(what, "");
}

// Runs a prefill on `shards`; shard `broken` does what `instead` says. Returns what was thrown.
std::vector<std::string> broken_prefill(int shards, int broken, Mode mode, milliseconds deadline,
                                        const std::function<void(Transport&)>& instead) {
  Random random(shards * 16 + broken);
  Sequence sequence({{4, 1, 8}, 4, shards, KvType::F32, 0.3f});
  const Tokens fresh = sequence.append(random, 50);
  InProcessRing ring(shards, deadline);
  return on_shards(shards, [&](int s) {
    if (s == broken) return instead(ring.at(s));
    ThreadPool threads(1);
    const auto q = sequence.queries(s, fresh);
    std::vector<float> o(q.size()), lse(q.size() / 8);
    Prefill prefill(make_plan(sequence.placement(), fresh, mode, s),
                    {{4, 1, 8}, KvType::F32, 0.3f});
    prefill.run(sequence.kv(s), q.data(), o.data(), lse.data(), 0, ring.at(s), threads);
  });
}

TEST(InProcessRing, AShardThatNeverAnswersEndsTheRingWithinTheDeadline) {
  for (Mode mode : {Mode::PassKv, Mode::PassQ}) {
    for (int shards = 2; shards <= 8; shards += 3) {
      for (int broken : {0, shards - 1}) {
        const auto began = Clock::now();
        // Long enough for a busy machine to begin all the other shards' threads within it.
        const auto thrown =
            broken_prefill(shards, broken, mode, milliseconds(400), [](Transport&) {});
        EXPECT_LT(Clock::now() - began, milliseconds(5000));
        for (int s = 0; s < shards; ++s) {
          if (s == broken) continue;
          EXPECT_NE(thrown[s], "") << "shard " << s << " of " << shards;
          EXPECT_NE(thrown[s].find("400 ms; shard " + std::to_string(broken) + " is silent"),
                    std::string::npos)
              << thrown[s];
        }
      }
    }
  }
}

TEST(InProcessRing, AnAbortReachesAllAtOnce) {
  const auto began = Clock::now();
  const auto thrown = broken_prefill(4, 2, Mode::PassKv, milliseconds(60000),
                                     [](Transport& t) { t.abort("out of memory"); });
  EXPECT_LT(Clock::now() - began, milliseconds(5000));
  for (int s : {0, 1, 3})
    EXPECT_EQ(thrown[s], "ring aborted: shard 2: out of memory") << "shard " << s;
}

TEST(InProcessRing, StepsOutOfTurnAreErrors) {
  const auto one = bytes(4, 1);
  auto got = bytes(4, 0);
  {  // begun out of turn
    InProcessRing ring(2, milliseconds(1000));
    EXPECT_THROW(ring.at(0).post({1, one, {}}), RingError);
  }
  {  // waited for out of turn
    InProcessRing ring(2, milliseconds(1000));
    ring.at(0).post({0, one, {}});
    ring.at(0).post({1, one, {}});
    EXPECT_THROW(ring.at(0).wait(1), RingError);
  }
  {  // a third under way
    InProcessRing ring(2, milliseconds(1000));
    ring.at(0).post({0, {}, {}});
    ring.at(0).post({1, {}, {}});
    EXPECT_THROW(ring.at(0).post({2, {}, {}}), RingError);
  }
  {  // the neighbour is at another step of its plan
    InProcessRing ring(2, milliseconds(1000));
    ring.at(0).post({0, {}, {}});
    ring.at(0).wait(0);
    ring.at(0).post({1, one, {}});
    ring.at(1).post({0, {}, got});
    try {
      ring.at(1).wait(0);
      FAIL() << "step 1 was taken for step 0";
    } catch (const RingError& e) {
      EXPECT_STREQ(e.what(), "shard 1 got step 1 of shard 0 at step 0");
    }
    EXPECT_THROW(ring.at(0).wait(1), RingError) << "the ring is over for all";
  }
  {  // and one of another size
    InProcessRing ring(2, milliseconds(1000));
    ring.at(0).post({0, bytes(3, 1), {}});
    ring.at(1).post({0, {}, got});
    EXPECT_THROW(ring.at(1).wait(0), RingError);
  }
}

TEST(InProcessRing, ALinkIsBounded) {
  InProcessRing ring(2, milliseconds(30));
  const auto one = bytes(4, 1);
  for (uint64_t step = 0; step < 2; ++step) {
    ring.at(0).post({step, one, {}});
    ring.at(0).wait(step);
  }
  try {
    ring.at(0).post({2, one, {}});
    FAIL() << "a third message on a link";
  } catch (const RingError& e) {
    EXPECT_STREQ(e.what(),
                 "shard 1 took no message of shard 0 at step 2 within 30 ms; shard 1 is silent");
  }
}

TEST(InProcessRing, AGatherMissesWhoIsSilent) {
  InProcessRing ring(3, milliseconds(50));
  const auto thrown = on_shards(3, [&](int s) {
    if (s == 1) return;
    const uint64_t mine = s;
    uint64_t all[3];
    ring.at(s).gather(0, std::as_bytes(std::span(&mine, 1)),
                      std::as_writable_bytes(std::span(all)));
  });
  for (int s : {0, 2}) EXPECT_NE(thrown[s].find("nothing from shard 1"), std::string::npos);
}

TEST(InProcessRing, APlanOfAnotherShardIsRefused) {
  Placement placement(2, 4);
  placement.append(10);
  InProcessRing ring(2, milliseconds(50));
  ThreadPool threads(1);
  Prefill prefill(make_plan(placement, {0, 10}, Mode::PassKv, 1), {{4, 1, 8}, KvType::F32, 1});
  EXPECT_THROW(prefill.run(nullptr, nullptr, nullptr, nullptr, 0, ring.at(0), threads), RingError);
}

}  // namespace
}  // namespace ringtide::kernels::ring
