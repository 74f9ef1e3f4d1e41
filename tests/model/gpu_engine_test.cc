// The GPU's engine over a real device.
#include "kernels/gpu_load.h"
#include "tests/model/gpu_kind.h"

namespace ringtide::testing {
namespace {

std::vector<EngineKind> kinds() {
  if (!kernels::open_gpu().gpu) return {};
  // Opened for each engine: other tests open other GPUs on this thread.
  return {gpu_kind("Gpu", [] { return kernels::open_gpu().gpu; })};
}

TEST(Gpu, IsHere) {
  if (const kernels::GpuChoice device = kernels::open_gpu(); !device.gpu)
    GTEST_SKIP() << device.reason;
}

// Memory of one GPU is not taken on a thread that has gone on to another.
TEST(Gpu, IsForTheThreadThatOpenedItLast) {
  const kernels::GpuChoice first = kernels::open_gpu(0), second = kernels::open_gpu(1);
  if (!second.gpu) GTEST_SKIP() << second.reason;
  EXPECT_THROW(first.gpu->allocate(1024), std::logic_error);
  second.gpu->release(second.gpu->allocate(1024));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AnyEngine);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AnyRestore);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GpuEngine);
INSTANTIATE_TEST_SUITE_P(Gpu, AnyEngine, ::testing::ValuesIn(kinds()));
INSTANTIATE_TEST_SUITE_P(Gpu, AnyRestore, ::testing::ValuesIn(kinds()));
INSTANTIATE_TEST_SUITE_P(Gpu, GpuEngine, ::testing::ValuesIn(kinds()));

}  // namespace
}  // namespace ringtide::testing
