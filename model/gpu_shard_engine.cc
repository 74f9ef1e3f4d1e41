// The engine of one GPU of a ring: memory for sessions under `exact` and for those that keep units,
// and which engine has which session.
#include <algorithm>
#include <unordered_map>

#include "model/gpu_passes.h"
#include "model/gpu_ring_passes.h"
#include "model/gpu_shared.h"

namespace ringtide::model {
namespace {

kernels::cuda::Heads heads_of(const ModelConfig& c) { return {c.heads, c.kv_heads, c.head_dim}; }

// Of the device, for sessions. Nothing: sessions of that kind are refused.
struct Room {
  int64_t blocks = 0;  // under `exact`, of GpuRingMemory
  int64_t bytes = 0;   // under other policies
};

// What this GPU has for both, beside weights and activations.
int64_t own_room(const Model& model, const EngineOptions& options, const GpuRingOptions& ring,
                 const kernels::GpuInfo& gpu, int shards) {
  if (const std::string why = GpuWeights::refusal(model); !why.empty())
    throw ModelError("a ring of GPUs cannot serve this model: " + why);
  const int64_t limit = options.gpu_memory > 0 ? std::min(options.gpu_memory, gpu.free_bytes)
                                               : gpu.free_bytes / 10 * 9;
  const ModelConfig& c = model.config;
  int64_t fixed = GpuWeights::bytes(model) + limit / 64 +
                  2 * shards * GpuRingLink::part_floats(heads_of(c)) * 4;
  if (ring.exact_share > 0)
    fixed +=
        GpuRingPasses::bytes(c, GpuRingPasses::rows_of_pass(options.pass_tokens, shards), shards);
  if (ring.exact_share < 1) fixed += GpuPasses::bytes(c, options.pass_tokens, true);
  return std::max<int64_t>(0, limit - fixed);
}

Room divide(int64_t room, const ModelConfig& config, double exact_share, int shards) {
  const auto exact = static_cast<int64_t>(static_cast<double>(room) * exact_share);
  const Room r{
      exact / (GpuRingMemory::bytes(config, shards) + GpuRingPasses::bytes_of_block(shards)),
      room - exact};
  if (r.blocks == 0 && r.bytes == 0)
    throw ModelError(
        "a GPU of the ring has no memory left for sessions beside the model: raise "
        "--gpu-memory, lower --pass-tokens or free some");
  return r;
}

class GpuShardEngine final : public Engine {
 public:
  GpuShardEngine(const std::shared_ptr<kernels::Gpu>& gpu,
                 const std::shared_ptr<const Model>& model, const EngineOptions& options,
                 const GpuRingOptions& ring, kernels::cuda::RingLink& link, UnitStore& units)
      : gpu_(gpu), options_(options), ring_(*gpu, link) {
    // Where shards have unequal room, all take what the least has.
    const int64_t own = own_room(*model, options, ring, gpu->info(), link.shards());
    const Room room = divide(ring_.least(own), model->config, ring.exact_share, link.shards());
    const GpuShared shared{gpu, model, std::make_shared<const GpuWeights>(*gpu, *model), options,
                           &ring_};
    if (room.blocks > 0) exact_ = make_gpu_exact_engine(shared, room.blocks, ring);
    if (room.bytes > 0) window_ = make_gpu_window_engine(shared, room.bytes, units);
  }

  void open(ContextId id, const PolicyConfig& policy) override { to(id, policy).open(id, policy); }
  void restore(ContextId id, const PolicyConfig& policy, std::vector<TokenId> tokens,
               std::vector<int32_t> lengths) override {
    to(id, policy).restore(id, policy, std::move(tokens), std::move(lengths));
  }
  Replay replay(ContextId id) override {
    const auto found = engines_.find(id);
    return found == engines_.end() ? Replay{.finished = true} : found->second->replay(id);
  }
  void close(ContextId id) override {
    if (const auto found = engines_.find(id); found != engines_.end()) found->second->close(id);
    engines_.erase(id);
  }
  bool has(ContextId id) const override {
    const auto found = engines_.find(id);
    return found != engines_.end() && found->second->has(id);
  }

  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    of(id).prefill(id, tokens);
  }
  void prefill(ContextId id, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths) override {
    of(id).prefill(id, tokens, lengths);
  }
  void decode(std::span<const DecodeRow> rows) override {
    for (const DecodeRow& row : rows) of(row.context);
    try {
      by_engine(rows, [](Engine& engine, std::span<const DecodeRow> own, std::span<const size_t>) {
        engine.decode(own);
      });
    } catch (...) {
      for (const DecodeRow& row : rows) close(row.context);
      throw;
    }
  }
  TokenId sample(ContextId id, const SamplingParams& params) override {
    return of(id).sample(id, params);
  }
  void sample(std::span<const SampleRow> rows, std::span<TokenId> tokens) override {
    by_engine(rows,
              [&](Engine& engine, std::span<const SampleRow> own, std::span<const size_t> places) {
                std::vector<TokenId> sampled(own.size());
                engine.sample(own, sampled);
                for (size_t i = 0; i < places.size(); ++i) tokens[places[i]] = sampled[i];
              });
  }
  std::span<const float> logits(ContextId id) override { return of(id).logits(id); }
  bool hand_over() override { return !window_ || window_->hand_over(); }
  bool store_pages(bool on) override { return window_ && window_->store_pages(on); }
  bool imagine(ContextId id, const PolicyConfig& policy, int64_t tokens) override {
    return to(id, policy).imagine(id, policy, tokens);
  }

  ContextStats stats(ContextId id) const override { return engines_.at(id)->stats(id); }
  EngineStats stats() const override {
    EngineStats sum = window_ ? window_->stats() : EngineStats{};
    if (!exact_) return sum;
    const EngineStats exact = exact_->stats();
    sum.gpu_budget += exact.gpu_budget;
    sum.gpu_used += exact.gpu_used;
    sum.contexts += exact.contexts;
    return sum;
  }
  std::vector<UnitUse> last_used(ContextId id) const override {
    return engines_.at(id)->last_used(id);
  }
  int64_t units_awaited(ContextId id) const override { return engines_.at(id)->units_awaited(id); }

 private:
  // Where a context is from now on, also if its engine refuses it.
  Engine& to(ContextId id, const PolicyConfig& policy) {
    close(id);
    validate(policy);
    if (const std::string why = gpu_refusal(policy, options_); !why.empty())
      throw ModelError("this policy cannot be served: " + why);
    const auto& engine = policy.kind == PolicyKind::Exact ? exact_ : window_;
    if (!engine)
      throw ModelError("this ring of GPUs has no memory for sessions under " +
                       to_string(policy.kind));
    engines_[id] = engine.get();
    return *engine;
  }
  Engine& of(ContextId id) const {
    const auto found = engines_.find(id);
    if (found == engines_.end())
      throw std::logic_error("context " + std::to_string(id) + " is not open");
    return *found->second;
  }
  // call(engine, its rows, their places), in one order on all shards.
  template <class Row, class Call>
  void by_engine(std::span<const Row> rows, const Call& call) const {
    for (Engine* engine : {exact_.get(), window_.get()}) {
      std::vector<Row> own;
      std::vector<size_t> places;
      for (size_t i = 0; i < rows.size(); ++i) {
        if (&of(rows[i].context) != engine) continue;
        own.push_back(rows[i]);
        places.push_back(i);
      }
      if (!own.empty()) call(*engine, std::span<const Row>(own), std::span<const size_t>(places));
    }
  }

  const std::shared_ptr<kernels::Gpu> gpu_;
  const EngineOptions options_;
  GpuRingLink ring_;
  std::unique_ptr<Engine> exact_, window_;  // null: no room for such sessions
  std::unordered_map<ContextId, Engine*> engines_;
};

}  // namespace

std::unique_ptr<Engine> make_gpu_shard_engine(std::shared_ptr<kernels::Gpu> gpu,
                                              std::shared_ptr<const Model> model,
                                              const EngineOptions& options,
                                              const GpuRingOptions& ring,
                                              kernels::cuda::RingLink& link, UnitStore& units) {
  return std::make_unique<GpuShardEngine>(std::move(gpu), std::move(model), options, ring, link,
                                          units);
}

}  // namespace ringtide::model
