// The engine of a ring, as the leader drives it: every call goes to all shards and is made on the
// leader's own engine, which is one of them.
//
// When the ring is over, each call throws model::RingError: the engine is of no more use, another
// ring has to be formed. What else a call throws is what its own engine threw; if that is no
// refusal (ModelError, OutOfBudget), the ring is over too.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/cluster/activity.h"
#include "actors/cluster/call.h"
#include "actors/cluster/ring_end.h"
#include "model/engine.h"

namespace ringtide::actors::cluster {

class ClusterEngine final : public model::Engine {
 public:
  // `send` takes a call, as encode() made it, to all other shards, in order; `disband` tells them
  // that no more will come.
  struct Others {
    std::function<void(Bytes)> send;
    std::function<void()> disband;
  };
  ClusterEngine(std::shared_ptr<RingEnd> ring, std::unique_ptr<model::Engine> own, Others others,
                std::shared_ptr<Activity> activity);
  ~ClusterEngine() override;

  void open(model::ContextId id, const model::PolicyConfig& policy) override;
  void restore(model::ContextId id, const model::PolicyConfig& policy,
               std::vector<model::TokenId> tokens, std::vector<int32_t> block_lengths) override;
  Replay replay(model::ContextId id) override;
  void close(model::ContextId id) override;
  void prefill(model::ContextId id, std::span<const model::TokenId> tokens) override;
  void prefill(model::ContextId id, std::span<const model::TokenId> tokens,
               std::span<const int32_t> lengths) override;
  void decode(std::span<const model::DecodeRow> rows) override;
  model::TokenId sample(model::ContextId id, const model::SamplingParams& params) override;
  void sample(std::span<const model::SampleRow> rows, std::span<model::TokenId> tokens) override;
  std::span<const float> logits(model::ContextId id) override;

  // Of the leader's own engine; no other is asked.
  bool has(model::ContextId id) const override { return own_->has(id); }
  model::ContextStats stats(model::ContextId id) const override { return own_->stats(id); }
  model::EngineStats stats() const override { return own_->stats(); }
  std::vector<model::UnitUse> last_used(model::ContextId id) const override {
    return own_->last_used(id);
  }

 private:
  void make(Call call);

  const std::shared_ptr<RingEnd> ring_;  // outlives own_
  std::unique_ptr<model::Engine> own_;
  const Others others_;
  const std::shared_ptr<Activity> activity_;
  Ledger ledger_;
};

}  // namespace ringtide::actors::cluster
