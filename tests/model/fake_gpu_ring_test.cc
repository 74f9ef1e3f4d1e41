// Rings of GPUs over devices of plain loops.
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
          const auto e = model::make_gpu_shard_engine(fake(s), m.model, options, {}, ring->at(s));
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

// Both ways of a pass.
TEST_F(Shards, AShardThatFallsSilentEndsInAnErrorOfTheOther) {
  for (const int64_t tokens : {5, 600}) {
    const auto text = random_tokens(1, tokens);
    const auto thrown = run(std::chrono::milliseconds(100), [&](Engine& e, int shard) {
      e.open(1, policy());
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
