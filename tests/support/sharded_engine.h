// The engines of a ring, each in a thread of its own, driven as one engine: every call is made on
// all of them, and what they answer must be the same, bit for bit.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/ring/in_process.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/shard_engine.h"
#include "tests/support/memory_units.h"

namespace ringtide::testing {

// One shard's store: what this shard has put into `all`.
class ShardView : public model::UnitStore {
 public:
  ShardView(MemoryUnits& all, int shard) : all_(all), shard_(shard) {}
  void put(uint64_t owner, model::SealedUnit unit) override {
    all_.hold(shard_, unit.key);
    all_.put(owner, std::move(unit));
  }
  void read(std::span<model::PartRead> reads) override {
    for (model::PartRead& r : reads) {
      if (all_.held(shard_, r.key)) all_.read({&r, 1});
    }
  }
  std::vector<bool> contains(std::span<const model::UnitKey> keys) override {
    std::vector<bool> has = all_.contains(keys);
    for (size_t i = 0; i < keys.size(); ++i) has[i] = has[i] && all_.held(shard_, keys[i]);
    return has;
  }

 private:
  MemoryUnits& all_;
  const int shard_;
};

// Threads that each run what they are given; `run` returns when all have.
class ShardThreads {
 public:
  explicit ShardThreads(int shards);
  ~ShardThreads();
  // Throws what shard 0 threw, if all threw; that shards do not all throw, or not all the same text
  // but for a RingError, is a failure of the test.
  void run(const std::function<void(int)>& body);
  // What each threw; null: nothing.
  std::vector<std::exception_ptr> outcomes(const std::function<void(int)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class ShardedEngine : public model::Engine {
 public:
  // Shard s has transport(s) and stores(s).
  ShardedEngine(int shards, const std::shared_ptr<const model::Model>& model,
                const model::EngineOptions& options,
                const std::function<model::UnitStore&(int)>& stores,
                const std::function<model::ShardTransport&(int)>& transports,
                const std::shared_ptr<const model::CpuWeights>& weights = nullptr);
  ~ShardedEngine() override;

  void open(model::ContextId id, const model::PolicyConfig& policy) override;
  void restore(model::ContextId id, const model::PolicyConfig& policy,
               std::vector<model::TokenId> tokens, std::vector<int32_t> block_lengths) override;
  Replay replay(model::ContextId id) override;
  void close(model::ContextId id) override;
  bool has(model::ContextId id) const override;
  void prefill(model::ContextId id, std::span<const model::TokenId> tokens) override;
  void decode(std::span<const model::DecodeRow> rows) override;
  model::TokenId sample(model::ContextId id, const model::SamplingParams& params) override;
  std::span<const float> logits(model::ContextId id) override;
  // Reads and bytes of all shards; what they have in common once.
  model::ContextStats stats(model::ContextId id) const override;
  // Of the shard that uses most.
  model::EngineStats stats() const override;
  std::vector<model::UnitUse> last_used(model::ContextId id) const override;

  model::Engine& at(int shard) { return *engines_[shard]; }

 private:
  // What all shards answer, which must be the same.
  template <class T>
  T same(const std::function<T(model::Engine&)>& ask) const;
  void all(const std::function<void(model::Engine&)>& call) const;

  const std::unique_ptr<ShardThreads> threads_;
  std::vector<std::unique_ptr<model::Engine>> engines_;
};

// A ring in this process that is as one engine, with stores that share `units`.
std::unique_ptr<model::Engine> make_sharded_engine(
    int shards, const std::shared_ptr<const model::Model>& model,
    const model::EngineOptions& options, MemoryUnits& units,
    const std::shared_ptr<const model::CpuWeights>& weights = nullptr);

}  // namespace ringtide::testing
