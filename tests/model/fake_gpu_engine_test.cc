// The GPU's engine over a device of plain loops.
#include "tests/model/gpu_kind.h"
#include "tests/support/fake_gpu.h"

namespace ringtide::testing {
namespace {

std::shared_ptr<kernels::Gpu> fake() { return make_fake_gpu(int64_t{64} << 20); }

INSTANTIATE_TEST_SUITE_P(FakeGpu, AnyEngine, ::testing::Values(gpu_kind("FakeGpu", fake)));
INSTANTIATE_TEST_SUITE_P(FakeGpu, AnyRestore, ::testing::Values(gpu_kind("FakeGpu", fake)));
INSTANTIATE_TEST_SUITE_P(FakeGpu, GpuEngine, ::testing::Values(gpu_kind("FakeGpu", fake)));

// Once steps have come as expected, each is started before the host has the token that it begins
// with, and nobody waits for the device but for sampled tokens.
TEST(FakeGpuSteps, AreStartedBeforeTheirTokensAreHere) {
  for (const PolicyKind policy : {PolicyKind::Exact, PolicyKind::InfLlm}) {
    FakeGpuCounts counts;
    const auto open = [&]() -> std::shared_ptr<kernels::Gpu> {
      return make_fake_gpu(int64_t{64} << 20, &counts);
    };
    const EngineKind kind = gpu_kind("FakeGpu", open);
    const SmallModel m = small_model(7, kind.shape);
    MemoryUnits units;
    EngineOptions options;
    options.ram_budget = 64 << 20;
    const auto engine = kind.make(m.model, options, units);
    engine->open(1, small_policy(policy));
    Runner r{*engine, 1, BlockPlan(small_policy(policy).block), {}};
    r.append(random_tokens(1, 301));
    r.finish_prompt();
    constexpr int kWarm = 6;
    for (int step = 0; step < 40; ++step) {
      FakeGpuCounts before = counts;
      const model::DecodeRow row{1, engine->sample(1, {})};
      engine->stats(1);
      const int64_t started = counts.launches - before.launches;
      before = counts;
      engine->decode({&row, 1});
      if (step < kWarm) continue;
      EXPECT_EQ(started, 1) << step;
      EXPECT_EQ(counts.launches, before.launches) << step;
      EXPECT_EQ(counts.waits, before.waits) << step;
    }
  }
}

// However much of a guess has come when it is over.
TEST(FakeGpuGuesses, ChangeNoBit) {
  SmallShape shape = gpu_kind("", fake).shape;
  shape.layers = 4;
  PolicyConfig p = small_policy(PolicyKind::InfLlm);
  p.select = 4;
  std::vector<std::vector<float>> logits;
  std::vector<int64_t> awaited;
  for (const double guessed : {1.0, 0.5, 0.0}) {
    const EngineKind kind = gpu_kind("FakeGpu", [&]() -> std::shared_ptr<kernels::Gpu> {
      return make_fake_gpu(int64_t{64} << 20, nullptr, {}, guessed);
    });
    const SmallModel m = small_model(3, shape);
    MemoryUnits units;
    EngineOptions options;
    options.ram_budget = 64 << 20;
    const auto engine = kind.make(m.model, options, units);
    engine->open(1, p);
    Runner r{*engine, 1, BlockPlan(p.block), {}};
    r.append(random_tokens(12, 600));
    r.finish_prompt();
    for (int i = 0; i < 20; ++i) {
      const model::DecodeRow row{1, random_tokens(100 + i, 1)[0]};
      engine->decode({&row, 1});
    }
    const auto last = engine->logits(1);
    logits.emplace_back(last.begin(), last.end());
    awaited.push_back(engine->units_awaited(1));
  }
  EXPECT_EQ(logits[1], logits[0]);
  EXPECT_EQ(logits[2], logits[0]);
  EXPECT_LT(awaited[0], awaited[1]);
  EXPECT_LT(awaited[1], awaited[2]);
}

}  // namespace
}  // namespace ringtide::testing
