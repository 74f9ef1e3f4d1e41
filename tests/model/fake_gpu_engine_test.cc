// The GPU's engine over a device of plain loops.
#include "tests/model/gpu_kind.h"
#include "tests/support/fake_gpu.h"

namespace ringtide::testing {
namespace {

std::shared_ptr<kernels::Gpu> fake() { return make_fake_gpu(int64_t{64} << 20); }

INSTANTIATE_TEST_SUITE_P(FakeGpu, AnyEngine, ::testing::Values(gpu_kind("FakeGpu", fake)));
INSTANTIATE_TEST_SUITE_P(FakeGpu, AnyRestore, ::testing::Values(gpu_kind("FakeGpu", fake)));
INSTANTIATE_TEST_SUITE_P(FakeGpu, GpuEngine, ::testing::Values(gpu_kind("FakeGpu", fake)));

}  // namespace
}  // namespace ringtide::testing
