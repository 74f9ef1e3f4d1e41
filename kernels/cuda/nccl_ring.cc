#include "kernels/cuda/nccl_ring.h"

#include <nccl.h>

#include <cstring>
#include <mutex>
#include <thread>

#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {
namespace {

using ring::RingError;
using Clock = std::chrono::steady_clock;

void check_nccl(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress)
    throw RingError(std::string(what) + ": " + ncclGetErrorString(result));
}

// Calls return at once (a communicator that does not block) and are polled, so that a peer that is
// not there cannot hold a thread.
class NcclRing : public RingLink {
 public:
  NcclRing(const NcclId& id, int shard, int shards, const NcclOptions& options)
      : shard_(shard), shards_(shards), deadline_(options.deadline) {
    ncclUniqueId unique;
    static_assert(sizeof unique.internal == sizeof id);
    std::memcpy(unique.internal, id.data(), id.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (options.max_blocks > 0) {
      config.minCTAs = 1;
      config.maxCTAs = options.max_blocks;
    }
    const ncclResult_t began = ncclCommInitRankConfig(&comm_, shards, unique, shard, &config);
    if (began != ncclSuccess && began != ncclInProgress) fail(ncclGetErrorString(began));
    settle("joining the ring");
  }

  ~NcclRing() override {
    if (!comm_) return;
    try {
      if (ncclCommFinalize(comm_) == ncclInProgress) settle("leaving the ring");
      if (comm_) ncclCommDestroy(comm_);
    } catch (const RingError&) {
    }
  }

  int shard() const override { return shard_; }
  int shards() const override { return shards_; }

  void step(const LinkStep& step, cudaStream_t stream) override {
    take_turn(step.number);
    if (step.send_bytes == 0 && step.receive_bytes == 0) return;
    check_nccl(ncclGroupStart(), "ncclGroupStart");
    if (step.send_bytes > 0)
      check_nccl(ncclSend(step.send, step.send_bytes, ncclChar, (shard_ + 1) % shards_, comm_, stream),
                 "ncclSend");
    if (step.receive_bytes > 0)
      check_nccl(ncclRecv(step.receive, step.receive_bytes, ncclChar,
                          (shard_ + shards_ - 1) % shards_, comm_, stream),
                 "ncclRecv");
    check_nccl(ncclGroupEnd(), "ncclGroupEnd");
    settle("a step");
  }

  void gather(uint64_t number, const void* mine, size_t bytes, void* all,
              cudaStream_t stream) override {
    take_turn(number);
    check_nccl(ncclAllGather(mine, all, bytes, ncclChar, comm_, stream), "ncclAllGather");
    settle("a gather");
  }

  void finish(cudaStream_t stream) override {
    check_alive();
    poll("what is under way", [&] {
      const cudaError_t status = cudaStreamQuery(stream);
      if (status != cudaSuccess && status != cudaErrorNotReady) fail(cudaGetErrorString(status));
      ncclResult_t state = ncclSuccess;
      ncclCommGetAsyncError(comm_, &state);
      if (state != ncclSuccess && state != ncclInProgress) fail(ncclGetErrorString(state));
      return status == cudaSuccess;
    });
  }

  // Noticed by the thread that uses the link, which alone may end the communicator.
  void abort(const std::string& reason) override {
    const std::lock_guard lock(mutex_);
    if (aborted_.empty()) aborted_ = reason;
  }

 private:
  void check_alive() {
    if (!comm_) throw RingError("the ring of shard " + std::to_string(shard_) + " is over");
    std::string reason;
    {
      const std::lock_guard lock(mutex_);
      reason = aborted_;
    }
    if (!reason.empty()) fail("aborted: " + reason);
  }
  // Ends the transfers that run on this device; those of the peers end by their own deadlines.
  [[noreturn]] void fail(const std::string& reason) {
    if (comm_) ncclCommAbort(comm_);
    comm_ = nullptr;
    throw RingError("shard " + std::to_string(shard_) + " of a ring of " + std::to_string(shards_) +
                    ": " + reason);
  }
  template <class Done>
  void poll(const std::string& what, Done done) {
    const auto began = Clock::now();
    while (!done()) {
      check_alive();
      const auto passed = Clock::now() - began;
      if (passed > deadline_)
        fail(what + " did not end within " + std::to_string(deadline_.count()) + " ms");
      if (passed > std::chrono::milliseconds(2))
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  void settle(const char* what) {
    poll(what, [&] {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
      if (asked != ncclSuccess) fail(ncclGetErrorString(asked));
      if (state != ncclSuccess && state != ncclInProgress) fail(ncclGetErrorString(state));
      return state == ncclSuccess;
    });
  }
  void take_turn(uint64_t number) {
    check_alive();
    if (number != turn_) {
      fail("step " + std::to_string(number) + " begins out of turn, after " +
           std::to_string(turn_) + " others");
    }
    ++turn_;
  }

  const int shard_, shards_;
  const std::chrono::milliseconds deadline_;
  std::mutex mutex_;
  std::string aborted_;  // guarded by mutex_
  // The thread that uses the link only.
  ncclComm_t comm_ = nullptr;
  uint64_t turn_ = 0;
};

}  // namespace

NcclId make_nccl_id() {
  ncclUniqueId unique;
  check_nccl(ncclGetUniqueId(&unique), "ncclGetUniqueId");
  NcclId id;
  std::memcpy(id.data(), unique.internal, id.size());
  return id;
}

std::unique_ptr<RingLink> make_nccl_ring(const NcclId& id, int shard, int shards,
                                         const NcclOptions& options) {
  return std::make_unique<NcclRing>(id, shard, shards, options);
}

}  // namespace ringtide::kernels::cuda
