#include "kernels/cuda/nccl_ring.h"

#include <nccl.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
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

// Calls return at once (a communicator that does not block) and are polled. A guard ends the
// communicator when a wait outlasts the deadline: the thread that waits may itself be held up in
// the driver, by another device of the process that waits for the stuck transfer.
class NcclRing : public RingLink {
 public:
  NcclRing(const NcclId& id, int shard, int shards, const NcclOptions& options)
      : shard_(shard),
        shards_(shards),
        deadline_(options.deadline),
        part_floats_(options.part_floats) {
    ncclUniqueId unique;
    static_assert(sizeof unique.internal == sizeof id);
    std::memcpy(unique.internal, id.data(), id.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (options.max_blocks > 0) {
      config.minCTAs = 1;
      config.maxCTAs = options.max_blocks;
    }
    check_nccl(ncclCommInitRankConfig(&comm_, shards, unique, shard, &config), "joining the ring");
    guard_ = std::thread([this] { guard(); });
    try {
      settle("joining the ring");
      check(cudaMalloc(&parts_, (shards + 1) * part_floats_ * sizeof(float) + 1), "cudaMalloc");
    } catch (...) {
      stop_guard();
      throw;
    }
  }

  ~NcclRing() override {
    try {
      if (call([&](ncclComm_t comm) { return ncclCommFinalize(comm); })) settle("leaving the ring");
    } catch (const RingError&) {
    }
    stop_guard();
    if (comm_) ncclCommDestroy(comm_);
    cudaFree(parts_);
  }

  int shard() const override { return shard_; }
  int shards() const override { return shards_; }

  void step(const LinkStep& step, cudaStream_t stream) override {
    take_turn(step.number);
    if (step.send_bytes == 0 && step.receive_bytes == 0) return;
    const int next = (shard_ + 1) % shards_, previous = (shard_ + shards_ - 1) % shards_;
    enqueue("a step", [&](ncclComm_t comm) {
      ncclResult_t result = ncclGroupStart();
      if (step.send_bytes > 0)
        keep(result, ncclSend(step.send, step.send_bytes, ncclChar, next, comm, stream));
      if (step.receive_bytes > 0)
        keep(result, ncclRecv(step.receive, step.receive_bytes, ncclChar, previous, comm, stream));
      keep(result, ncclGroupEnd());
      return result;
    });
  }

  void gather(uint64_t number, const void* mine, size_t bytes, void* all,
              cudaStream_t stream) override {
    take_turn(number);
    enqueue("a gather", [&](ncclComm_t comm) {
      return ncclAllGather(mine, all, bytes, ncclChar, comm, stream);
    });
  }

  void merge(const RingMerge& a, cudaStream_t stream) override {
    const int64_t floats = ring_part_floats(a.shape, a.rows);
    const size_t o_bytes = a.queries() * a.shape.head_dim * sizeof(float);
    if (floats > part_floats_)
      throw std::invalid_argument("a merge of more rows than the ring was made for");
    if (a.rows == 0) return;
    float* const mine = parts_ + shards_ * part_floats_;
    check(cudaMemcpyAsync(mine, a.o, o_bytes, cudaMemcpyDefault, stream), "a copy");
    check(cudaMemcpyAsync(mine + o_bytes / sizeof(float), a.lse, a.queries() * sizeof(float),
                          cudaMemcpyDefault, stream),
          "a copy");
    enqueue("an exchange", [&](ncclComm_t comm) {
      return ncclAllGather(mine, parts_, floats, ncclFloat, comm, stream);
    });
    merge_parts(parts_, shards_, a, stream);
  }

  void finish(cudaStream_t stream) override {
    poll("what is under way", [&] {
      const cudaError_t status = cudaStreamQuery(stream);
      if (status != cudaSuccess && status != cudaErrorNotReady) fail(cudaGetErrorString(status));
      settled();
      return status == cudaSuccess;
    });
  }

  void abort(const std::string& reason) override {
    const std::lock_guard lock(mutex_);
    end("aborted: " + reason);
  }

 private:
  static void keep(ncclResult_t& first, ncclResult_t result) {
    if (first == ncclSuccess || first == ncclInProgress) first = result;
  }
  static bool good(ncclResult_t result) {
    return result == ncclSuccess || result == ncclInProgress;
  }

  // mutex_ is held. Ends the transfers that run on this device; those of the peers end by their own
  // deadlines.
  void end(const std::string& reason) {
    if (over_.empty()) over_ = reason;
    if (comm_) ncclCommAbort(comm_);
    comm_ = nullptr;
  }
  [[noreturn]] void fail(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    end(reason);
    throw error();
  }
  RingError error() const {
    return RingError("shard " + std::to_string(shard_) + " of a ring of " +
                     std::to_string(shards_) + ": " + over_);
  }
  // False where the ring is over or NCCL refuses.
  template <class Call>
  bool call(Call body) {
    const std::lock_guard lock(mutex_);
    return comm_ && good(body(comm_));
  }
  template <class Call>
  void enqueue(const char* what, Call body) {
    {
      const std::lock_guard lock(mutex_);
      if (!comm_) throw error();
      const ncclResult_t result = body(comm_);
      if (!good(result)) {
        end(std::string(what) + ": " + ncclGetErrorString(result));
        throw error();
      }
    }
    settle(what);
  }
  bool settled() {
    const std::lock_guard lock(mutex_);
    if (!comm_) throw error();
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess || !good(state)) {
      end(ncclGetErrorString(asked != ncclSuccess ? asked : state));
      throw error();
    }
    return state == ncclSuccess;
  }
  void settle(const char* what) {
    poll(what, [&] { return settled(); });
  }
  void take_turn(uint64_t number) {
    if (number != turn_) {
      fail("step " + std::to_string(number) + " begins out of turn, after " +
           std::to_string(turn_) + " others");
    }
    ++turn_;
  }

  // Until done() or the deadline.
  template <class Done>
  void poll(const char* what, Done done) {
    const auto began = Clock::now();
    {
      const std::lock_guard lock(mutex_);
      if (!comm_) throw error();
      waits_for_ = what;
      due_ = began + deadline_;
    }
    armed_.notify_one();
    while (!done()) {
      if (Clock::now() - began > std::chrono::milliseconds(2))
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    const std::lock_guard lock(mutex_);
    due_.reset();
  }
  void guard() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (!due_ || !comm_) {
        armed_.wait(lock);
      } else if (Clock::now() < *due_) {
        armed_.wait_until(lock, *due_);
      } else {
        end(std::string(waits_for_) + " did not end within " + std::to_string(deadline_.count()) +
            " ms");
      }
    }
  }
  void stop_guard() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    armed_.notify_one();
    guard_.join();
  }

  const int shard_, shards_;
  const std::chrono::milliseconds deadline_;
  const int64_t part_floats_;
  float* parts_ = nullptr;  // of all shards, then this shard's
  // The thread that uses the link only.
  uint64_t turn_ = 0;
  std::thread guard_;
  std::mutex mutex_;
  std::condition_variable armed_;
  // Guarded by mutex_.
  ncclComm_t comm_ = nullptr;  // null: the ring is over
  std::string over_;           // why
  std::optional<Clock::time_point> due_;
  const char* waits_for_ = "";
  bool stop_ = false;
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
