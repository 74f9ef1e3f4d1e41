#include "tests/support/fake_shard_engine.h"

#include <utility>
#include <vector>

namespace ringtide::testing {
namespace {

using model::ContextId;
using model::TokenId;

class FakeShardEngine final : public model::Engine {
 public:
  FakeShardEngine(std::unique_ptr<model::Engine> own, model::ShardTransport& transport)
      : own_(std::move(own)), transport_(transport) {
    agree({});
  }

  void open(ContextId id, const model::PolicyConfig& policy) override {
    agree({1, id, static_cast<uint64_t>(policy.block)});
    own_->open(id, policy);
  }
  void restore(ContextId id, const model::PolicyConfig& policy, std::vector<TokenId> tokens,
               std::vector<int32_t> lengths) override {
    agree({2, id, sum(tokens), sum(lengths)});
    own_->restore(id, policy, std::move(tokens), std::move(lengths));
  }
  Replay replay(ContextId id) override {
    agree({3, id});
    return own_->replay(id);
  }
  void close(ContextId id) override {
    agree({4, id});
    own_->close(id);
  }
  bool has(ContextId id) const override { return own_->has(id); }
  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    agree({5, id, sum(tokens)});
    own_->prefill(id, tokens);
  }
  void decode(std::span<const model::DecodeRow> rows) override {
    std::vector<uint64_t> what = {6};
    for (const auto& row : rows)
      what.insert(what.end(), {row.context, static_cast<uint64_t>(row.token)});
    agree(what);
    own_->decode(rows);
  }
  TokenId sample(ContextId id, const model::SamplingParams& params) override {
    agree({7, id, params.seed});
    return own_->sample(id, params);
  }
  std::span<const float> logits(ContextId id) override { return own_->logits(id); }
  model::ContextStats stats(ContextId id) const override { return own_->stats(id); }
  model::EngineStats stats() const override { return own_->stats(); }
  std::vector<model::UnitUse> last_used(ContextId id) const override { return own_->last_used(id); }

 private:
  template <class List>
  static uint64_t sum(const List& list) {
    uint64_t hash = list.size();
    for (const auto each : list) hash = hash * 0x100000001b3u + static_cast<uint64_t>(each);
    return hash;
  }

  void agree(std::vector<uint64_t> arguments) {
    const uint64_t mine = sum(arguments);
    std::vector<uint64_t> all(transport_.shards());
    transport_.gather(step_++, std::as_bytes(std::span(&mine, 1)),
                      std::as_writable_bytes(std::span(all)));
    for (const uint64_t other : all) {
      if (other == mine) continue;
      transport_.abort("the shards make different calls");
      throw model::RingError("the shards make different calls");
    }
  }

  const std::unique_ptr<model::Engine> own_;
  model::ShardTransport& transport_;
  uint64_t step_ = 0;
};

}  // namespace

std::unique_ptr<model::Engine> make_fake_shard_engine(FakeWorld& world, model::UnitStore* units,
                                                      model::ShardTransport& transport) {
  return std::make_unique<FakeShardEngine>(world.make(units), transport);
}

}  // namespace ringtide::testing
