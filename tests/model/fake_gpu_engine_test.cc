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

}  // namespace
}  // namespace ringtide::testing
