// The GPU's engine over a real device.
#include "kernels/gpu_load.h"
#include "tests/model/gpu_kind.h"

namespace ringtide::testing {
namespace {

// Opened once: each engine of the tests has it alone, one after the other.
const kernels::GpuChoice& device() {
  static const kernels::GpuChoice choice = kernels::open_gpu();
  return choice;
}

std::vector<EngineKind> kinds() {
  if (!device().gpu) return {};
  return {gpu_kind("Gpu", [] { return device().gpu; })};
}

TEST(Gpu, IsHere) {
  if (!device().gpu) GTEST_SKIP() << device().reason;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AnyEngine);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AnyRestore);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GpuEngine);
INSTANTIATE_TEST_SUITE_P(Gpu, AnyEngine, ::testing::ValuesIn(kinds()));
INSTANTIATE_TEST_SUITE_P(Gpu, AnyRestore, ::testing::ValuesIn(kinds()));
INSTANTIATE_TEST_SUITE_P(Gpu, GpuEngine, ::testing::ValuesIn(kinds()));

}  // namespace
}  // namespace ringtide::testing
