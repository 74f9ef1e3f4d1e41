// What the ring's tests share: a sequence with its keys and values on the shards of a placement,
// attention over it in float64, a thread for each shard, and weather on the ring.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/ring/in_process.h"
#include "kernels/ring/placement.h"
#include "tests/kernels/support.h"

namespace ringtide::kernels::ring {

struct SequenceShape {
  HeadShape heads;
  int unit = 0, shards = 0;
  KvType type = KvType::F32;
  float scale = 0;
};

// Grows by appends; what no token has filled is NaN.
class Sequence {
 public:
  explicit Sequence(const SequenceShape& shape);
  // Returns the fresh tokens.
  Tokens append(Random& random, int64_t count);

  const Placement& placement() const { return placement_; }
  const SequenceShape& shape() const { return shape_; }
  const void* kv(int shard) const { return kv_[shard].data(); }
  std::vector<KvBlock> blocks(int shard) const;
  // Of the shard's tokens in `fresh`, in order.
  std::vector<float> queries(int shard, Tokens fresh) const;
  // (o, lse) of one head of the query at `position`, over all tokens up to it.
  SlowResult slow(int64_t position, int head) const;
  const float* query(int64_t position) const { return q_.data() + position * row(); }
  int64_t row() const { return int64_t{shape_.heads.heads} * shape_.heads.head_dim; }

 private:
  void store(int64_t token);
  SequenceShape shape_;
  Placement placement_;
  std::vector<float> q_, k_, v_;  // of all tokens
  std::vector<std::vector<std::byte>> kv_;
};

// Runs body(shard) in a thread each; what they threw, empty if nothing.
std::vector<std::string> on_shards(int shards, const std::function<void(int)>& body);

// Delays of up to `most` before every call, by a seed.
class Weather : public Transport {
 public:
  Weather(Transport& below, uint64_t seed, std::chrono::microseconds most)
      : below_(below), random_(seed), most_(most) {}
  int shard() const override { return below_.shard(); }
  int shards() const override { return below_.shards(); }
  void post(const Step& step) override { delay(), below_.post(step); }
  void wait(uint64_t number) override { delay(), below_.wait(number); }
  void gather(uint64_t number, std::span<const std::byte> mine, std::span<std::byte> all) override {
    delay(), below_.gather(number, mine, all);
  }
  void abort(const std::string& reason) override { below_.abort(reason); }

 private:
  void delay();
  Transport& below_;
  Random random_;
  std::chrono::microseconds most_;
};

}  // namespace ringtide::kernels::ring
