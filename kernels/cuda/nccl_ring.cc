#include "kernels/cuda/nccl_ring.h"

#include <nccl.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {
namespace {

using ring::RingError;
using Clock = std::chrono::steady_clock;

void check_nccl(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress)
    throw RingError(std::string(what) + ": " + ncclGetErrorString(result));
}

// The communicator, and a guard that ends it when a wait outlasts its deadline: the thread that
// waits may itself be held up, in NCCL or in the driver. Whoever waits is told before the
// communicator is aborted, since that may take its time, or never come back: then the guard's
// thread stays behind with it.
class Guarded {
 public:
  explicit Guarded(std::chrono::milliseconds deadline) : state_(std::make_shared<State>()) {
    state_->deadline = deadline;
    guard_ = std::thread([state = state_] { state->guard(); });
  }
  ~Guarded() { leave(); }
  Guarded(const Guarded&) = delete;

  // The last call: the guard's work is done, or an abort does not come back within the deadline
  // (false): then memory that transfers touch must stay.
  bool leave() {
    if (!guard_.joinable()) return true;
    std::unique_lock lock(state_->mutex);
    state_->stop = true;
    state_->armed.notify_all();
    const bool ended = state_->armed.wait_for(lock, state_->deadline, [&] { return state_->done; });
    lock.unlock();
    if (ended)
      guard_.join();
    else
      guard_.detach();
    return ended;
  }

  void hold(ncclComm_t comm) {
    const std::lock_guard lock(state_->mutex);
    state_->comm = comm;
  }
  // call(comm) and then, until done(comm), polls; no longer than the deadline. Throws RingError.
  template <class Call, class Done>
  void run(const char* what, const Call& call, const Done& done) {
    const ncclComm_t comm = begin(what);
    ncclResult_t result = call(comm);
    const auto began = Clock::now();
    while (good(result) && !done(comm)) {
      if (over()) break;
      if (Clock::now() - began > std::chrono::milliseconds(2))
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      if (over()) break;
      ncclResult_t state = ncclSuccess;
      result = ncclCommGetAsyncError(comm, &state);
      if (result == ncclSuccess) result = state;
    }
    const std::lock_guard lock(state_->mutex);
    state_->due.reset();
    state_->armed.notify_all();
    if (!good(result)) state_->end(std::string(what) + ": " + ncclGetErrorString(result));
    state_->require();
  }
  static bool done(ncclComm_t comm) {
    ncclResult_t state = ncclInProgress;
    return ncclCommGetAsyncError(comm, &state) == ncclSuccess && state == ncclSuccess;
  }
  void end(const std::string& reason) {
    const std::lock_guard lock(state_->mutex);
    state_->end(reason);
  }
  void require() const {
    const std::lock_guard lock(state_->mutex);
    state_->require();
  }
  bool over() const {
    const std::lock_guard lock(state_->mutex);
    return !state_->reason.empty();
  }
  // The communicator, which is nobody's any more; null: it was aborted.
  ncclComm_t release() {
    const std::lock_guard lock(state_->mutex);
    return std::exchange(state_->comm, nullptr);
  }
  void name(std::string shard) { state_->shard = std::move(shard); }

 private:
  struct State {
    std::string shard;  // for errors; constant once there are any
    std::chrono::milliseconds deadline{};
    std::mutex mutex;
    std::condition_variable armed;
    // Guarded by mutex.
    ncclComm_t comm = nullptr;
    std::string reason;  // why the ring is over; empty: it is not
    std::optional<Clock::time_point> due;
    const char* waits_for = "";
    bool stop = false, done = false;

    // mutex is held. The guard aborts what runs on this device; peers end by their own deadlines.
    void end(const std::string& why) {
      if (reason.empty()) reason = why;
      armed.notify_all();
    }
    void require() const {
      if (!reason.empty()) throw RingError(shard + ": " + reason);
    }
    void guard() {
      std::unique_lock lock(mutex);
      while (!stop || (comm && !reason.empty())) {
        if (comm && !reason.empty()) {
          // Whoever waits is about to notice, and leaves the communicator, unless it is held up
          // there.
          armed.wait_for(lock, std::chrono::milliseconds(200), [&] { return !due; });
          const ncclComm_t aborted = std::exchange(comm, nullptr);
          lock.unlock();
          ncclCommAbort(aborted);
          lock.lock();
        } else if (!due) {
          armed.wait(lock);
        } else if (Clock::now() < *due) {
          armed.wait_until(lock, *due);
        } else {
          end(std::string(waits_for) + " did not end within " + std::to_string(deadline.count()) +
              " ms");
        }
      }
      done = true;
      armed.notify_all();
    }
  };

  static bool good(ncclResult_t result) {
    return result == ncclSuccess || result == ncclInProgress;
  }
  ncclComm_t begin(const char* what) {
    const std::lock_guard lock(state_->mutex);
    state_->require();
    state_->waits_for = what;
    state_->due = Clock::now() + state_->deadline;
    state_->armed.notify_all();
    return state_->comm;
  }

  const std::shared_ptr<State> state_;
  std::thread guard_;
};

// Calls return at once (a communicator that does not block) and are polled.
class NcclRing : public RingLink {
 public:
  NcclRing(const NcclId& id, int shard, int shards, const NcclOptions& options)
      : shard_(shard),
        shards_(shards),
        part_floats_(options.part_floats),
        guarded_(options.deadline) {
    guarded_.name("shard " + std::to_string(shard) + " of a ring of " + std::to_string(shards));
    ncclUniqueId unique;
    static_assert(sizeof unique.internal == sizeof id);
    std::memcpy(unique.internal, id.data(), id.size());
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (options.max_blocks > 0) {
      config.minCTAs = 1;
      config.maxCTAs = options.max_blocks;
    }
    ncclComm_t comm = nullptr;
    check_nccl(ncclCommInitRankConfig(&comm, shards, unique, shard, &config), "joining the ring");
    guarded_.hold(comm);
    wait("joining the ring", [](ncclComm_t) { return ncclSuccess; });
    check(cudaMalloc(&parts_, (shards + 1) * part_floats_ * sizeof(float) + 1), "cudaMalloc");
  }

  ~NcclRing() override {
    try {
      wait("leaving the ring", [](ncclComm_t comm) { return ncclCommFinalize(comm); });
      if (const ncclComm_t comm = guarded_.release()) ncclCommDestroy(comm);
    } catch (const RingError&) {
    }
    if (guarded_.leave()) cudaFree(parts_);
  }

  int shard() const override { return shard_; }
  int shards() const override { return shards_; }

  void step(const LinkStep& step, cudaStream_t stream) override {
    require_made(stream);
    take_turn(step.number);
    if (step.send_bytes == 0 && step.receive_bytes == 0) return;
    const int next = (shard_ + 1) % shards_, previous = (shard_ + shards_ - 1) % shards_;
    wait("a step", [&](ncclComm_t comm) {
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
    require_made(stream);
    take_turn(number);
    wait("a gather",
         [&](ncclComm_t comm) { return ncclAllGather(mine, all, bytes, ncclChar, comm, stream); });
  }

  void merge(const RingMerge& a, cudaStream_t stream) override {
    const int64_t floats = ring_part_floats(a.shape, a.rows);
    const size_t o_bytes = a.queries() * a.shape.head_dim * sizeof(float);
    if (floats > part_floats_)
      throw std::invalid_argument("a merge of more rows than the ring was made for");
    require_made(stream);
    if (a.rows == 0) return;
    float* const mine = parts_ + shards_ * part_floats_;
    check(cudaMemcpyAsync(mine, a.o, o_bytes, cudaMemcpyDefault, stream), "a copy");
    check(cudaMemcpyAsync(mine + o_bytes / sizeof(float), a.lse, a.queries() * sizeof(float),
                          cudaMemcpyDefault, stream),
          "a copy");
    wait("an exchange", [&](ncclComm_t comm) {
      return ncclAllGather(mine, parts_, floats, ncclFloat, comm, stream);
    });
    merge_parts(parts_, shards_, a, stream);
  }

  void finish(cudaStream_t stream) override {
    cudaError_t status = cudaErrorNotReady;
    guarded_.run(
        "what is under way", [](ncclComm_t) { return ncclSuccess; },
        [&](ncclComm_t) {
          status = cudaStreamQuery(stream);
          return status != cudaErrorNotReady;
        });
    if (status == cudaSuccess) return;
    guarded_.end(cudaGetErrorString(status));
    guarded_.require();
  }

  void abort(const std::string& reason) override { guarded_.end("aborted: " + reason); }

 private:
  static void keep(ncclResult_t& first, ncclResult_t result) {
    if (first == ncclSuccess || first == ncclInProgress) first = result;
  }
  static void require_made(cudaStream_t stream) {
    if (stream == cudaStreamPerThread)
      throw std::invalid_argument(
          "a ring over NCCL needs a stream that is the same in all threads");
  }
  template <class Call>
  void wait(const char* what, const Call& call) {
    guarded_.run(what, call, Guarded::done);
  }
  void take_turn(uint64_t number) {
    if (number != turn_) {
      guarded_.end("step " + std::to_string(number) + " begins out of turn, after " +
                   std::to_string(turn_) + " others");
    }
    guarded_.require();
    ++turn_;
  }

  const int shard_, shards_;
  const int64_t part_floats_;
  float* parts_ = nullptr;  // of all shards, then this shard's
  // The thread that uses the link only.
  uint64_t turn_ = 0;
  Guarded guarded_;
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
