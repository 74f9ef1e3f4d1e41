// A ring of GPUs over NCCL: a thread or a process each, on one host or many. What waits for a peer
// that says nothing ends at the deadline.
//
// NCCL enqueues from threads of its own: streams must be made ones. cudaStreamPerThread, which is
// another stream in every thread, is refused.
#pragma once

#include <array>
#include <chrono>
#include <memory>

#include "kernels/cuda/ring_link.h"

namespace ringtide::kernels::cuda {

// Names a ring. One shard makes it, all others get it from there.
using NcclId = std::array<char, 128>;
NcclId make_nccl_id();

struct NcclOptions {
  std::chrono::milliseconds deadline{10000};  // of every wait, joining too
  int max_blocks = 0;       // thread blocks, so multiprocessors, of a transfer; 0: NCCL's choice
  int64_t part_floats = 0;  // of the largest part that is merged
};

// Joins; every shard calls. The current device is the shard's.
std::unique_ptr<RingLink> make_nccl_ring(const NcclId& id, int shard, int shards,
                                         const NcclOptions& options);

}  // namespace ringtide::kernels::cuda
