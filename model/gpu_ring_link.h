// A shard's end of a ring of GPUs, as engines use it: exchanges numbered in the order of the calls,
// and what the shards agree on.
//
// All shards make the same calls in the same order. Whoever allocates memory of a device, or frees it,
// may have to wait for all that runs there; so that no other shard waits for this one meanwhile, what
// merges have been enqueued is finished first, and the next are enqueued after agreeing. Throws RingError.
// The engine's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"

namespace ringtide::model {

class GpuRingLink {
 public:
  GpuRingLink(kernels::Gpu& gpu, kernels::cuda::RingLink& link);
  ~GpuRingLink();
  GpuRingLink(const GpuRingLink&) = delete;

  int shard() const { return link_.shard(); }
  int shards() const { return link_.shards(); }

  // As RingLink's.
  using Queue = kernels::Gpu::Queue;
  void step(const void* send, int64_t send_bytes, void* receive, int64_t receive_bytes, Queue queue);
  void gather(const void* mine, int64_t bytes, void* all, Queue queue);
  // Of any number of rows.
  void merge(const kernels::cuda::RingMerge& a);
  // Waits for all that was enqueued.
  void finish() { gpu_.ring_finish(link_); }

  // -- agreeing: returns when all shards have asked ----
  // The least that any shard gives.
  int64_t least(int64_t mine);
  bool any(bool mine) { return least(mine ? 0 : 1) == 0; }
  // Of each place, whether any shard has it set.
  void any(std::vector<bool>& mine);

  // Floats of the largest part that a merge exchanges at once.
  static int64_t part_floats(const kernels::cuda::Heads& shape) {
    return kernels::cuda::ring_part_floats(shape, kMostRows);
  }

 private:
  static constexpr int32_t kMostRows = 512;  // of one exchange
  static constexpr int64_t kWords = 512;     // of one agreement
  const int64_t* exchange(int64_t words);

  kernels::Gpu& gpu_;
  kernels::cuda::RingLink& link_;
  uint64_t number_ = 0;  // of the link's next step
  GpuBuffer mine_, all_;
  int64_t* const host_;  // kWords of this shard, then those of all
};

}  // namespace ringtide::model
