// A ring of the GPUs of one process, a thread each, over the copy engines: transfers take no
// multiprocessors from what is computed meanwhile. The threads meet on the host at every step, to
// hand over events; the devices wait for each other's events alone.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "kernels/cuda/ring_link.h"

namespace ringtide::kernels::cuda {

class PeerRing final : public RingLinks {
 public:
  // One shard a device, in this order; at most kMostPeers. `part_floats`: of the largest part that
  // is merged. Throws DeviceError where two of them have no access to each other's memory.
  PeerRing(std::vector<int> devices, std::chrono::milliseconds deadline, int64_t part_floats = 0);
  ~PeerRing() override;
  PeerRing(const PeerRing&) = delete;
  PeerRing& operator=(const PeerRing&) = delete;

  RingLink& at(int shard) override;

 private:
  struct State;
  class End;
  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<End>> ends_;
};

}  // namespace ringtide::kernels::cuda
