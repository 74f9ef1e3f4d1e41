// A ring of messages: what model::ShardTransport promises, and how it ends when something fails.
#include "actors/cluster/ring_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

namespace ringtide::actors::cluster {
namespace {

using std::chrono::milliseconds;
using ::testing::MatchesRegex;
using Clock = std::chrono::steady_clock;

// Ends that hand pieces to each other at once.
class Ring {
 public:
  Ring(int shards, milliseconds deadline) {
    for (int s = 0; s < shards; ++s) {
      ends.push_back(
          std::make_unique<RingEnd>(s, shards, deadline, std::make_unique<Wire>(*this, s)));
    }
  }
  std::vector<std::unique_ptr<RingEnd>> ends;
  // Of each piece: whether it goes on. Called by the sender's thread.
  std::function<bool(int from, int to, Piece&)> passes = [](int, int, Piece&) { return true; };

 private:
  struct Wire : Carrier {
    Wire(Ring& ring, int shard) : ring(ring), shard(shard) {}
    void piece(int to, Piece piece) override {
      if (ring.passes(shard, to, piece)) ring.ends[to]->take(shard, piece);
    }
    void taken(int to, uint64_t step) override { ring.ends[to]->taken(shard, step); }
    void over(const std::string& why) override {
      for (auto& end : ring.ends) end->end(why);
    }
    Ring& ring;
    const int shard;
  };
};

// What each thread threw; empty: nothing.
std::vector<std::string> on_shards(Ring& ring, const std::function<void(int, RingEnd&)>& body) {
  std::vector<std::string> thrown(ring.ends.size());
  std::vector<std::thread> threads;
  for (size_t s = 0; s < ring.ends.size(); ++s) {
    threads.emplace_back([&, s] {
      try {
        body(static_cast<int>(s), *ring.ends[s]);
      } catch (const model::RingError& error) {
        thrown[s] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return thrown;
}

std::vector<std::byte> bytes(size_t n, int value) { return {n, static_cast<std::byte>(value)}; }
std::vector<std::byte> mixed(size_t n, int seed) {
  std::vector<std::byte> all(n);
  for (size_t i = 0; i < n; ++i) all[i] = static_cast<std::byte>(i * 31 + i / 251 + seed);
  return all;
}

TEST(RingEnd, StepsCarryBytesToTheNextShard) {
  for (const int n : {1, 2, 3, 5}) {
    Ring ring(n, milliseconds(20000));
    const auto thrown = on_shards(ring, [&](int s, RingEnd& end) {
      const int before = (s + n - 1) % n;
      // Two under way; sizes differ by shard and step, some beyond a piece, some nothing.
      const auto size = [&](uint64_t step, int shard) {
        return step % 13 == 5 ? RingEnd::kPiece * 2 + shard : (step * 7 + shard * 3) % 11;
      };
      std::vector<std::byte> mine[2], got[2];
      for (uint64_t step = 0; step < 40; ++step) {
        mine[step % 2] = mixed(size(step, s), s + step);
        got[step % 2].assign(size(step, before), std::byte{255});
        end.post({step, mine[step % 2], got[step % 2]});
        if (step == 0) continue;
        end.wait(step - 1);
        EXPECT_EQ(got[(step - 1) % 2], mixed(size(step - 1, before), before + step - 1));
      }
      end.wait(39);
    });
    for (const auto& what : thrown) EXPECT_EQ(what, "");
  }
}

TEST(RingEnd, GathersInTheOrderOfShards) {
  for (const int n : {1, 2, 4}) {
    for (const size_t size : {size_t{0}, size_t{8}, RingEnd::kPiece + 3}) {
      Ring ring(n, milliseconds(20000));
      const auto thrown = on_shards(ring, [&](int s, RingEnd& end) {
        for (uint64_t step = 0; step < 5; ++step) {
          std::vector<std::byte> all(size * n);
          end.gather(step, mixed(size, s + step), all);
          for (int i = 0; i < n; ++i) {
            const auto part = mixed(size, i + step);
            EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + i * size));
          }
        }
      });
      for (const auto& what : thrown) EXPECT_EQ(what, "");
    }
  }
}

TEST(RingEnd, ALostPieceEndsTheRingWithinTheDeadline) {
  for (const bool gathered : {false, true}) {
    Ring ring(3, milliseconds(1500));
    ring.passes = [](int from, int, Piece& piece) { return from != 1 || piece.step < 4; };
    const auto began = Clock::now();
    const auto thrown = on_shards(ring, [&](int, RingEnd& end) {
      for (uint64_t step = 0; step < 10; ++step) {
        auto mine = bytes(8, 1), got = bytes(8, 0), all = bytes(24, 0);
        if (gathered) {
          end.gather(step, mine, all);
        } else {
          end.post({step, mine, got});
          end.wait(step);
        }
      }
    });
    EXPECT_LT(Clock::now() - began, milliseconds(20000));
    // Whose time is up first tells all: who misses step 4, or who waits for those who do.
    for (const auto& what : thrown)
      EXPECT_THAT(what, MatchesRegex(".*shard . (got nothing from|took no message of) shard . at "
                                     "step [456] within 1500 ms.*"));
  }
}

TEST(RingEnd, PiecesInTheWrongOrderAreNoMessage) {
  Ring ring(2, milliseconds(20000));
  ring.passes = [](int, int, Piece& piece) { return piece.offset != RingEnd::kPiece; };
  const auto thrown = on_shards(ring, [&](int, RingEnd& end) {
    auto mine = bytes(3 * RingEnd::kPiece, 1);
    std::vector<std::byte> got(mine.size());
    end.post({0, mine, got});
    end.wait(0);
  });
  for (const auto& what : thrown)
    EXPECT_NE(what.find("in the wrong order at step 0"), std::string::npos) << what;
}

TEST(RingEnd, AnAbortReachesAllAtOnce) {
  Ring ring(3, milliseconds(60000));
  const auto began = Clock::now();
  const auto thrown = on_shards(ring, [&](int s, RingEnd& end) {
    if (s == 2) return end.abort("out of memory");
    auto all = bytes(24, 0);
    end.gather(0, bytes(8, 1), all);
  });
  EXPECT_LT(Clock::now() - began, milliseconds(20000));
  for (const int s : {0, 1}) EXPECT_EQ(thrown[s], "ring aborted: shard 2: out of memory");
}

TEST(RingEnd, WhoReceivesCanEndIt) {
  Ring ring(2, milliseconds(60000));
  std::thread receiver([&] { ring.ends[0]->end("lost shard 1"); });
  auto all = bytes(16, 0);
  EXPECT_THROW(ring.ends[0]->gather(0, bytes(8, 1), all), model::RingError);
  receiver.join();
  EXPECT_EQ(ring.ends[0]->over(), "lost shard 1");
  EXPECT_EQ(ring.ends[1]->over(), std::nullopt);
}

TEST(RingEnd, StepsOutOfTurnAreErrors) {
  const auto one = bytes(4, 1);
  auto got = bytes(4, 0);
  const auto fails = [](auto body) {
    Ring ring(2, milliseconds(1000));
    try {
      body(*ring.ends[0], *ring.ends[1]);
    } catch (const model::RingError& error) {
      EXPECT_TRUE(ring.ends[0]->over() && ring.ends[1]->over());
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(fails([&](auto& a, auto&) { a.post({1, one, {}}); }), "shard 0 begins step 1, not 0");
  EXPECT_EQ(fails([&](auto& a, auto&) {
              a.post({0, one, {}});
              a.post({1, one, {}});
              a.wait(1);
            }),
            "shard 0 waits for step 1 out of turn");
  EXPECT_EQ(fails([&](auto& a, auto&) {
              for (uint64_t step = 0; step < 3; ++step) a.post({step, {}, {}});
            }),
            "shard 0 posts a third step at once");
  EXPECT_EQ(fails([&](auto& a, auto& b) {
              a.post({0, {}, {}});
              a.wait(0);
              a.post({1, one, {}});
              b.post({0, {}, got});
              b.wait(0);
            }),
            "shard 1 got step 1 of shard 0 at step 0");
  EXPECT_EQ(fails([&](auto& a, auto& b) {
              a.post({0, bytes(3, 1), {}});
              b.post({0, {}, got});
              b.wait(0);
            }),
            "shard 1 got 3 bytes, not 4, from shard 0 at step 0");
}

TEST(RingEnd, ALinkIsBounded) {
  Ring ring(2, milliseconds(30));
  const auto one = bytes(4, 1);
  auto& end = *ring.ends[0];
  for (uint64_t step = 0; step < 2; ++step) {
    end.post({step, one, {}});
    end.wait(step);
  }
  try {
    end.post({2, one, {}});
    FAIL() << "a third message on a link";
  } catch (const model::RingError& error) {
    EXPECT_STREQ(error.what(), "shard 1 took no message of shard 0 at step 2 within 30 ms");
  }
}

}  // namespace
}  // namespace ringtide::actors::cluster
