#include "tests/support/fake_ring.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/half.h"
#include "kernels/ring/in_process.h"

namespace ringtide::testing {
namespace {

using kernels::cuda::LinkStep;
using kernels::cuda::RingLink;
using kernels::cuda::RingLinks;
using kernels::cuda::RingMerge;

std::span<const std::byte> bytes_at(const void* p, size_t n) {
  return {static_cast<const std::byte*>(p), n};
}
std::span<std::byte> bytes_at(void* p, size_t n) { return {static_cast<std::byte*>(p), n}; }

class FakeLink final : public RingLink {
 public:
  FakeLink(kernels::ring::Transport& transport, int64_t part_floats)
      : transport_(transport), part_floats_(part_floats) {}

  int shard() const override { return transport_.shard(); }
  int shards() const override { return transport_.shards(); }

  void step(const LinkStep& step, cudaStream_t) override {
    take_turn(step.number);
    transport_.post({exchanges_, bytes_at(step.send, step.send_bytes),
                     bytes_at(step.receive, step.receive_bytes)});
    transport_.wait(exchanges_++);
  }
  void gather(uint64_t number, const void* mine, size_t bytes, void* all, cudaStream_t) override {
    take_turn(number);
    gather(mine, bytes, all);
  }
  void merge(const RingMerge& a, cudaStream_t) override {
    const int64_t floats = kernels::cuda::ring_part_floats(a.shape, a.rows), queries = a.queries();
    const int dim = a.shape.head_dim, n = shards();
    if (floats > part_floats_) throw std::invalid_argument("merge: more rows than the ring's");
    std::vector<float> mine(floats), all(n * floats);
    std::memcpy(mine.data(), a.o, queries * dim * sizeof(float));
    std::memcpy(mine.data() + queries * dim, a.lse, queries * sizeof(float));
    gather(mine.data(), mine.size() * sizeof(float), all.data());
    for (int64_t q = 0; q < queries; ++q) {
      const auto lse = [&](int s) { return all[s * floats + queries * dim + q]; };
      float most = -std::numeric_limits<float>::infinity();
      for (int s = 0; s < n; ++s) most = std::max(most, lse(s));
      double total = 0;
      for (int s = 0; s < n && most > -std::numeric_limits<float>::infinity(); ++s)
        total += std::exp(double{lse(s)} - most);
      for (int d = 0; d < dim; ++d) {
        double value = 0;
        for (int s = 0; s < n && total > 0; ++s)
          value += std::exp(double{lse(s)} - most) / total * all[s * floats + q * dim + d];
        reinterpret_cast<uint16_t*>(a.merged)[q * dim + d] =
            kernels::float_to_bfloat(static_cast<float>(value));
      }
      if (a.merged_lse) a.merged_lse[q] = static_cast<float>(most + std::log(total));
    }
  }
  void finish(cudaStream_t) override {}
  void abort(const std::string& reason) override { transport_.abort(reason); }

 private:
  void take_turn(uint64_t number) {
    if (number != turn_++) throw std::logic_error("a step of a ring out of turn");
  }
  void gather(const void* mine, size_t bytes, void* all) {
    transport_.gather(exchanges_++, bytes_at(mine, bytes), bytes_at(all, bytes * shards()));
  }

  kernels::ring::Transport& transport_;
  const int64_t part_floats_;
  uint64_t turn_ = 0;       // the link's next number
  uint64_t exchanges_ = 0;  // the transport's: merges have one there
};

class FakeRing final : public RingLinks {
 public:
  FakeRing(int shards, std::chrono::milliseconds deadline, int64_t part_floats)
      : ring_(shards, deadline) {
    for (int s = 0; s < shards; ++s)
      ends_.push_back(std::make_unique<FakeLink>(ring_.at(s), part_floats));
  }
  RingLink& at(int shard) override { return *ends_.at(shard); }

 private:
  kernels::ring::InProcessRing ring_;
  std::vector<std::unique_ptr<FakeLink>> ends_;
};

}  // namespace

std::shared_ptr<RingLinks> make_fake_ring(int shards, std::chrono::milliseconds deadline,
                                          int64_t part_floats) {
  return std::make_shared<FakeRing>(shards, deadline, part_floats);
}

}  // namespace ringtide::testing
