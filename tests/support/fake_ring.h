// A ring of fake GPUs: threads of one process, over kernels/ring/in_process.h. What is enqueued
// runs at once.
#pragma once

#include <chrono>
#include <memory>

#include "kernels/cuda/ring_link.h"

namespace ringtide::testing {

std::shared_ptr<kernels::cuda::RingLinks> make_fake_ring(int shards,
                                                         std::chrono::milliseconds deadline,
                                                         int64_t part_floats);

}  // namespace ringtide::testing
