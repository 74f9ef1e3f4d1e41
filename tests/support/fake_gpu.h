// A GPU of plain loops over host memory: what each operation of kernels/gpu.h has to compute,
// written down as simply as it can be. The engine's tests run over it where there is no device, and
// the device's kernels can be compared with it.
//
// Operations run at once, but for those between begin_graph() and end_graph(); copies of the copy
// queue run when somebody waits for them, or has asked about them for a while, so that whoever forgets
// to wait is found out.
#pragma once

#include <functional>
#include <memory>

#include "kernels/gpu.h"

namespace ringtide::testing {

// What somebody did with it.
struct FakeGpuCounts {
  int64_t launches = 0;  // of graphs
  int64_t waits = 0;     // for all that the compute queue has
};
// `counts`, where they are wanted, outlive it. at_launch() comes before each graph; what it throws
// is the GPU's failure.
std::unique_ptr<kernels::Gpu> make_fake_gpu(int64_t memory_bytes, FakeGpuCounts* counts = nullptr,
                                            std::function<void()> at_launch = {},
                                            double guessed = 1);

}  // namespace ringtide::testing
