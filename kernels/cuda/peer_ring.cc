#include "kernels/cuda/peer_ring.h"

#include <array>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "kernels/cuda/check.h"

namespace ringtide::kernels::cuda {
namespace {

using ring::RingError;

// What a shard lays open at a step: bytes that others may read once `readable` is done.
struct Offer {
  uint64_t number = 0;
  const void* data = nullptr;
  size_t bytes = 0;
  cudaEvent_t readable = nullptr;
};
// That a shard has read another's offer once `read` is done.
struct Receipt {
  uint64_t number = 0;
  cudaEvent_t read = nullptr;
};

std::string name(int shard) { return "shard " + std::to_string(shard); }

}  // namespace

struct PeerRing::State {
  State(int shards, std::chrono::milliseconds deadline)
      : deadline(deadline), offers(shards), receipts(shards) {
    for (int s = 0; s < shards; ++s) receipts[s].resize(shards), offers[s].resize(shards);
    check(cudaHostAlloc(&kernel_over, sizeof *kernel_over,
                        cudaHostAllocPortable | cudaHostAllocMapped),
          "pinned memory");
    *kernel_over = 0;
  }
  ~State() { cudaFreeHost(kernel_over); }
  State(const State&) = delete;

  const std::chrono::milliseconds deadline;
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<std::string> over;
  // [from][to]: from laid open, to has not yet taken.
  std::vector<std::vector<std::optional<Offer>>> offers;
  // [from][to]: from has read what to laid open, to has not yet noticed.
  std::vector<std::vector<std::optional<Receipt>>> receipts;
  // What exchanges that run look at and tell: not 0: the ring is over.
  int32_t* kernel_over = nullptr;

  [[noreturn]] void fail(const std::string& reason) {
    end(reason);
    throw RingError(reason);
  }
  void end(const std::string& reason) {
    if (!over) over = reason;
    *static_cast<volatile int32_t*>(kernel_over) = 1;
    changed.notify_all();
  }
  // Takes `slot` of `other`, which is to be of step `number`.
  template <class T>
  T take(std::optional<T>& slot, int shard, int other, uint64_t number) {
    std::unique_lock lock(mutex);
    const auto at = name(other) + " at step " + std::to_string(number);
    const bool came = changed.wait_for(lock, deadline, [&] { return over || slot; });
    if (over) throw RingError("ring aborted: " + *over);
    if (!came) {
      fail(name(shard) + " got nothing from " + at + " within " + std::to_string(deadline.count()) +
           " ms");
    }
    if (slot->number != number)
      fail(name(shard) + " got step " + std::to_string(slot->number) + " of " + at);
    const T taken = *slot;
    slot.reset();
    return taken;
  }
  template <class T>
  void put(std::optional<T>& slot, const T& value) {
    const std::lock_guard lock(mutex);
    if (over) throw RingError("ring aborted: " + *over);
    slot = value;
    changed.notify_all();
  }
};

class PeerRing::End : public RingLink {
 public:
  End(State& state, int shard, int shards, int device, int64_t part_floats)
      : state_(state), shard_(shard), shards_(shards) {
    check(cudaSetDevice(device), "cudaSetDevice");
    if (part_floats > 0) {
      const auto room = [&](auto*& memory, int64_t n) {
        check(cudaMalloc(&memory, n * sizeof *memory), "memory of exchanges");
        check(cudaMemset(memory, 0, n * sizeof *memory), "memory of exchanges");
      };
      room(parts_.inbox[shard], 2 * shards * part_floats);
      room(parts_.came[shard], kPeerBlocks * shards);
      room(parts_.turn, kPeerBlocks + 1);
    }
    parts_.shard = shard;
    parts_.shards = shards;
    parts_.floats = part_floats;
    parts_.over = state.kernel_over;
    parts_.deadline_ns = std::chrono::nanoseconds(state.deadline).count();
    for (auto* events : {&readable_, &read_}) {
      for (cudaEvent_t& event : *events)
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
    }
  }
  ~End() override {
    for (void* memory : {static_cast<void*>(parts_.inbox[shard_]),
                         static_cast<void*>(parts_.came[shard_]), static_cast<void*>(parts_.turn)})
      cudaFree(memory);
    for (auto* events : {&readable_, &read_}) {
      for (cudaEvent_t event : *events) cudaEventDestroy(event);
    }
  }

  // Where a peer's parts go.
  void reach(int other, const End& peer) {
    parts_.inbox[other] = peer.parts_.inbox[other];
    parts_.came[other] = peer.parts_.came[other];
  }

  int shard() const override { return shard_; }
  int shards() const override { return shards_; }

  void step(const LinkStep& step, cudaStream_t stream) override {
    const int parity = take_turn(step.number);
    const int next = (shard_ + 1) % shards_, previous = (shard_ + shards_ - 1) % shards_;
    if (step.send_bytes > 0) offer(step.number, step.send, step.send_bytes, parity, stream, next);
    if (step.receive_bytes > 0) {
      read(step.number, previous, step.receive, step.receive_bytes, stream);
      receipt(step.number, parity, stream, previous);
    }
    if (step.send_bytes > 0) await_receipt(step.number, next, stream);
  }

  void gather(uint64_t number, const void* mine, size_t bytes, void* all,
              cudaStream_t stream) override {
    const int parity = take_turn(number);
    const auto others = [&](auto&& body) {
      for (int s = 0; s < shards_; ++s) {
        if (s != shard_) body(s);
      }
    };
    check(cudaEventRecord(readable_[parity], stream), "an event");
    others([&](int s) {
      state_.put(state_.offers[shard_][s], Offer{number, mine, bytes, readable_[parity]});
    });
    auto* to = static_cast<std::byte*>(all);
    check(cudaMemcpyAsync(to + shard_ * bytes, mine, bytes, cudaMemcpyDefault, stream), "a copy");
    others([&](int s) { read(number, s, to + s * bytes, bytes, stream); });
    check(cudaEventRecord(read_[parity], stream), "an event");
    others([&](int s) { state_.put(state_.receipts[shard_][s], Receipt{number, read_[parity]}); });
    others([&](int s) { await_receipt(number, s, stream); });
  }

  void merge(const RingMerge& a, cudaStream_t stream) override {
    if (ring_part_floats(a.shape, a.rows) > parts_.floats)
      throw std::invalid_argument("a merge of more rows than the ring was made for");
    exchange_parts(parts_, a, stream);
  }

  void finish(cudaStream_t stream) override {
    const auto began = std::chrono::steady_clock::now();
    while (true) {
      const cudaError_t status = cudaStreamQuery(stream);
      if (status == cudaSuccess) break;
      if (status != cudaErrorNotReady) {
        abort(cudaGetErrorString(status));
        throw RingError(name(shard_) + ": " + cudaGetErrorString(status));
      }
      const auto passed = std::chrono::steady_clock::now() - began;
      if (passed > state_.deadline) {
        abort("its device is not done");
        throw RingError(name(shard_) + "'s device is not done within " +
                        std::to_string(state_.deadline.count()) + " ms");
      }
      if (passed > std::chrono::milliseconds(50))
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    if (*static_cast<volatile int32_t*>(state_.kernel_over) == 0) return;
    const std::lock_guard lock(state_.mutex);
    if (!state_.over) {
      state_.fail(name(shard_) + " or another waited longer than " +
                  std::to_string(state_.deadline.count()) + " ms in an exchange");
    }
    throw RingError("ring aborted: " + *state_.over);
  }

  void abort(const std::string& reason) override {
    const std::lock_guard lock(state_.mutex);
    state_.end(name(shard_) + ": " + reason);
  }

 private:
  // Events are used again two steps later: everybody has enqueued its wait for them by then.
  int take_turn(uint64_t number) {
    if (number != turn_) {
      const std::lock_guard lock(state_.mutex);
      state_.fail(name(shard_) + " begins step " + std::to_string(number) + ", not " +
                  std::to_string(turn_));
    }
    return static_cast<int>(turn_++ % 2);
  }
  void offer(uint64_t number, const void* data, size_t bytes, int parity, cudaStream_t stream,
             int to) {
    check(cudaEventRecord(readable_[parity], stream), "an event");
    state_.put(state_.offers[shard_][to], Offer{number, data, bytes, readable_[parity]});
  }
  void read(uint64_t number, int from, void* to, size_t bytes, cudaStream_t stream) {
    const Offer offer = state_.take(state_.offers[from][shard_], shard_, from, number);
    if (offer.bytes != bytes) {
      const std::lock_guard lock(state_.mutex);
      state_.fail(name(shard_) + " got " + std::to_string(offer.bytes) + " bytes, not " +
                  std::to_string(bytes) + ", from " + name(from));
    }
    check(cudaStreamWaitEvent(stream, offer.readable), "an event");
    check(cudaMemcpyAsync(to, offer.data, bytes, cudaMemcpyDefault, stream), "a copy");
  }
  void receipt(uint64_t number, int parity, cudaStream_t stream, int from) {
    check(cudaEventRecord(read_[parity], stream), "an event");
    state_.put(state_.receipts[shard_][from], Receipt{number, read_[parity]});
  }
  void await_receipt(uint64_t number, int by, cudaStream_t stream) {
    const Receipt receipt = state_.take(state_.receipts[by][shard_], shard_, by, number);
    check(cudaStreamWaitEvent(stream, receipt.read), "an event");
  }

  State& state_;
  const int shard_, shards_;
  uint64_t turn_ = 0;
  std::array<cudaEvent_t, 2> readable_{}, read_{};
  PeerParts parts_;
};

PeerRing::PeerRing(std::vector<int> devices, std::chrono::milliseconds deadline,
                   int64_t part_floats)
    : state_(std::make_unique<State>(static_cast<int>(devices.size()), deadline)) {
  const int shards = static_cast<int>(devices.size());
  if (shards > kMostPeers)
    throw std::invalid_argument("a ring over copy engines has at most " +
                                std::to_string(kMostPeers) + " GPUs");
  int current = 0;
  check(cudaGetDevice(&current), "cudaGetDevice");
  for (int from : devices) {
    check(cudaSetDevice(from), "cudaSetDevice");
    for (int to : devices) {
      if (from == to) continue;
      const cudaError_t status = cudaDeviceEnablePeerAccess(to, 0);
      if (status == cudaErrorPeerAccessAlreadyEnabled)
        cudaGetLastError();
      else
        check(status, "GPUs of one ring reach each other's memory");
    }
  }
  for (int s = 0; s < shards; ++s)
    ends_.push_back(std::make_unique<End>(*state_, s, shards, devices[s], part_floats));
  for (int s = 0; s < shards; ++s) {
    for (int other = 0; other < shards; ++other) ends_[s]->reach(other, *ends_[other]);
  }
  check(cudaSetDevice(current), "cudaSetDevice");
}
PeerRing::~PeerRing() = default;

RingLink& PeerRing::at(int shard) { return *ends_.at(shard); }

}  // namespace ringtide::kernels::cuda
