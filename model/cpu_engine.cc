// The engine of this machine's processors: contexts, their budget, and passes over them. Alone, or
// as a shard of a ring: of which only the places that say ring_ know.
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <thread>
#include <unordered_map>

#include "model/blocks.h"
#include "model/context.h"
#include "model/context_attention.h"
#include "model/cpu_weights.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/restore.h"
#include "model/sampler.h"
#include "model/shard_engine.h"
#include "model/shard_ring.h"
#include "model/shard_units.h"
#include "model/transformer.h"

namespace ringtide::model {
namespace {

// Payloads of one layer that the cache must have room for at once: a batch of attention's.
constexpr int64_t kCacheFloorUnits = 64;

int64_t physical_memory() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * int64_t{sysconf(_SC_PAGESIZE)};
}

// In fingerprints: keys and values computed one way are not another's.
const char* name_of(ActivationType a) {
  return a == ActivationType::F32 ? "/f32" : a == ActivationType::Int16 ? "/int16" : "/int8";
}

class CpuEngine final : public Engine {
 public:
  CpuEngine(std::shared_ptr<const Model> model, std::shared_ptr<const CpuWeights> weights,
            const EngineOptions& options, UnitStore& store, ShardTransport* transport)
      : model_(std::move(model)),
        budget_(options.ram_budget > 0 ? options.ram_budget : physical_memory() / 2),
        elsewhere_(options.ram_elsewhere),
        kv_type_(options.half_kv ? kernels::KvType::F16 : kernels::KvType::F32),
        store_(store),
        ring_(transport ? std::make_unique<ShardRing>(*transport, options.exchange_bytes,
                                                      options.unit_copies)
                        : nullptr),
        ring_units_(ring_ ? std::make_unique<ShardUnits>(store, *ring_) : nullptr),
        threads_(options.threads > 0 ? options.threads
                                     : std::max(1u, std::thread::hardware_concurrency())),
        weights_(weights ? std::move(weights)
                         : pack_weights(*model_, options.activations, threads_)),
        fingerprint_(model_->fingerprint + (options.half_kv ? "/kv16/6" : "/kv32/6") +
                     name_of(weights_->activations)),
        cache_(store),
        transformer_(*model_, *weights_, threads_, ring_.get()),
        attention_(make_attention()) {}

  void open(ContextId id, const PolicyConfig& config) override {
    std::unique_ptr<Context> context;
    agree([&] {
      context = make_context(id, config);
      reserve(config, context->layout(), 0);
    });
    contexts_[id] = std::move(context);
    update_cache_capacity();
  }

  void restore(ContextId id, const PolicyConfig& config, std::vector<TokenId> tokens,
               std::vector<int32_t> block_lengths) override {
    std::optional<History> history;
    agree([&] {
      history = History::of(config, fingerprint_, tokens, block_lengths);
      const PageLayout layout = make_context(id, config)->layout();
      reserve(config, layout, returning_reserve(*history, layout));
    });
    returns_.insert_or_assign(id, Return(std::move(*history)));
    update_cache_capacity();
  }

  Replay replay(ContextId id) override {
    if (ring_) ring_->check_alive();
    const auto found = returns_.find(id);
    if (found == returns_.end()) return {.finished = true};
    Return& back = found->second;
    try {
      guard([&] { back.step(passes(id, back.history().policy())); });
    } catch (...) {
      close(id);
      throw;
    }
    const Replay replay{back.done(), back.total(), back.finished()};
    if (replay.finished) {
      contexts_[id].reset(static_cast<Context*>(back.take().release()));
      contexts_[id]->counters.units_recomputed += back.rebuilt();
      contexts_[id]->counters.tokens_rerun += back.done();
      returns_.erase(found);
    }
    return replay;
  }

  void close(ContextId id) override {
    contexts_.erase(id);
    returns_.erase(id);
    update_cache_capacity();
  }

  bool has(ContextId id) const override { return contexts_.contains(id) || returns_.contains(id); }

  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    Context& context = get(id);
    const int64_t block = context.policy().config().block;
    const auto length = static_cast<int32_t>(tokens.size());
    require_whole_blocks(context.processed(), block, length, {&length, 1});
    const Segment segment{&context, tokens, context.processed()};
    run_or_close({&segment, 1});
  }

  void decode(std::span<const DecodeRow> rows) override {
    std::vector<Segment> segments;
    for (const DecodeRow& row : rows) {
      Context& context = get(row.context);
      segments.push_back({&context, std::span(&row.token, 1), context.processed()});
    }
    run_or_close(segments);
    const size_t vocabulary = model_->config.vocabulary;
    logits_.resize(rows.size() * vocabulary);
    guard([&] {
      transformer_.logits(activations_.x.data(), static_cast<int64_t>(rows.size()), logits_.data(),
                          scratch_);
    });
    for (size_t i = 0; i < segments.size(); ++i)
      segments[i].context->logits.assign(logits_.begin() + i * vocabulary,
                                         logits_.begin() + (i + 1) * vocabulary);
  }

  std::span<const float> logits(ContextId id) override {
    Context& context = get(id);
    if (context.hidden.empty()) throw std::logic_error("logits: nothing has been processed");
    if (context.logits.empty()) {
      std::vector<float> logits(model_->config.vocabulary);
      guard([&] { transformer_.logits(context.hidden.data(), 1, logits.data(), scratch_); });
      context.logits = std::move(logits);
    }
    return context.logits;
  }

  TokenId sample(ContextId id, const SamplingParams& params) override {
    const std::span<const float> from = logits(id);
    const std::vector<TokenId>& tokens = get(id).history().all_tokens();
    const size_t recent = std::min(tokens.size(), static_cast<size_t>(params.penalty_window));
    sampling_.assign(from.begin(), from.end());
    return model::sample(sampling_, std::span(tokens).last(recent),
                         static_cast<int64_t>(tokens.size()), params);
  }

  ContextStats stats(ContextId id) const override { return contexts_.at(id)->stats(); }

  EngineStats stats() const override {
    EngineStats s;
    s.ram_budget = budget_;
    s.unit_cache_bytes = cache_.bytes();
    s.contexts = static_cast<int64_t>(contexts_.size());
    s.ram_used = cache_.bytes();
    for (const auto& [id, context] : contexts_) {
      const ContextStats c = context->stats();
      s.ram_used += c.window_bytes + c.index_bytes;
    }
    return s;
  }

  std::vector<UnitUse> last_used(ContextId id) const override {
    std::vector<int64_t> picked = contexts_.at(id)->picked;
    std::sort(picked.begin(), picked.end());
    std::vector<UnitUse> uses;
    for (int64_t u : picked) {
      if (uses.empty() || uses.back().unit != u) uses.push_back({u, 0});
      ++uses.back().layers;
    }
    return uses;
  }

 private:
  // Room for a context more, beside those that are open, while units are made again: the cache
  // makes it.
  class Aside {
   public:
    Aside(CpuEngine& engine, int64_t bytes) : engine_(engine), bytes_(bytes) { add(bytes_); }
    ~Aside() { add(-bytes_); }
    Aside(const Aside&) = delete;
    Aside& operator=(const Aside&) = delete;

   private:
    void add(int64_t bytes) {
      engine_.aside_ += bytes;
      engine_.update_cache_capacity();
    }
    CpuEngine& engine_;
    const int64_t bytes_;
  };

  ContextAttention make_attention() {
    const auto recover = [this](Context& context, std::vector<int64_t> lost, Lost what) {
      if (ring_units_ && what == Lost::Page) lost = context.bring(lost, *ring_units_);
      if (lost.empty()) return;
      const PolicyConfig& config = context.policy().config();
      const Aside room(*this, window_reserve(config, context.layout()) +
                                  returning_reserve(context.history(), context.layout()));
      Rebuild rebuild(lost);
      const Passes p = passes(context.id(), config);
      while (!rebuild.done()) rebuild.step(context.history(), p);
      context.counters.units_recomputed += rebuild.rebuilt();
    };
    return ContextAttention(cache_, all_units(), threads_, recover, ring_.get());
  }

  // The units of all shards.
  UnitStore& all_units() { return ring_units_ ? *ring_units_ : store_; }
  void agree(const std::function<void()>& check) { ring_ ? ring_->agree(check) : check(); }
  void guard(const std::function<void()>& body) { ring_ ? ring_->guard(body) : body(); }

  // Passes over contexts that are not in contexts_, with activations of their own: a pass of
  // another context may be waiting for one of these.
  Passes passes(ContextId id, const PolicyConfig& config) {
    return {[this, id, config] { return make_context(id, config); },
            [this](Resumable& context, std::span<const TokenId> tokens,
                   std::span<const size_t> lengths) {
              Activations act;
              ContextAttention attention = make_attention();
              std::vector<Segment> blocks;
              int64_t position = context.processed();
              for (const size_t length : lengths) {
                blocks.push_back({static_cast<Context*>(&context), tokens.first(length), position});
                tokens = tokens.subspan(length);
                position += static_cast<int64_t>(length);
              }
              run(blocks, attention, act);
            },
            all_units(),
            // Rows of a block that a ring splits are merged in another order.
            ring_ ? ring_->least_split() - 1 : config.block};
  }

  Context& get(ContextId id) {
    auto found = contexts_.find(id);
    if (found == contexts_.end() && ring_) ring_->check_alive();
    if (found == contexts_.end())
      throw std::logic_error("context " + std::to_string(id) + " is not open");
    return *found->second;
  }

  std::unique_ptr<Context> make_context(ContextId id, const PolicyConfig& config) const {
    std::shared_ptr<const MemoryPolicy> policy = make_policy(config);
    const ModelConfig& c = model_->config;
    const PageLayout layout{c.layers,
                            {c.heads, c.kv_heads, c.head_dim},
                            config.unit,
                            kv_type_,
                            policy->represents(),
                            !c.sliding_inv_freq.empty()};
    return std::make_unique<Context>(id, std::move(policy), layout, c, fingerprint_, ring_.get());
  }

  // Bytes that a context of any length may come to hold: the pages in reach of a block, page 0, and
  // the open group of its index.
  int64_t window_reserve(const PolicyConfig& config, const PageLayout& layout) const {
    const int64_t block = config.block / config.unit,
                  pages = config.window / config.unit + block + 2;
    const int64_t here = ring_
                             ? std::min(pages, ring_->unit_copies() *
                                                   PageOwners::most(pages, block, ring_->shards()))
                             : pages;
    return here * layout.page_bytes() + (pages - here) * layout.page_bytes(false) +
           (layout.representatives ? IndexGroup::bytes(layout) : 0);
  }

  int64_t reserved() const {
    int64_t bytes = aside_;
    for (const auto& [id, c] : contexts_)
      bytes += window_reserve(c->policy().config(), c->layout()) + c->held_bytes();
    for (const auto& [id, r] : returns_) {
      const auto layout = make_context(id, r.history().policy())->layout();
      bytes +=
          window_reserve(r.history().policy(), layout) + returning_reserve(r.history(), layout);
    }
    return bytes;
  }

  // What grows with a context, of one on its way back: it is built beside its history.
  static int64_t returning_reserve(const History& history, const PageLayout& layout) {
    return 2 * history.bytes() +
           UnitIndex::bytes_for(layout, static_cast<int64_t>(history.keys().size()));
  }

  // What a pass holds of units and groups at once.
  static int64_t cache_floor(const PageLayout& layout) {
    return std::max(kCacheFloorUnits * layout.chunk_bytes(),
                    layout.representatives ? kGroupsAtOnce * IndexGroup::rows_bytes(layout) : 0);
  }

  // Throws OutOfBudget if a context of this shape, of which `grown` bytes grow with it, cannot be
  // had beside the others, ModelError if not even alone.
  void reserve(const PolicyConfig& config, const PageLayout& layout, int64_t grown) const {
    const int64_t need = window_reserve(config, layout) + grown + cache_floor(layout);
    const auto mib = [](int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20); };
    const std::string what = "a session with a window of " + std::to_string(config.window) +
                             " tokens needs " + mib(need) + " MiB of memory";
    const int64_t budget = budget_ - elsewhere_;
    if (need > budget)
      throw ModelError(what + ", more than all that the budget of " + mib(budget_) +
                       " MiB has for sessions, " + mib(std::max<int64_t>(0, budget)) +
                       " MiB: raise --ram-budget or choose a smaller --window");
    if (reserved() + need > budget)
      throw OutOfBudget(what + "; of " + mib(budget) + " MiB for sessions " + mib(reserved()) +
                        " MiB are held by others");
  }

  void update_cache_capacity() {
    cache_.set_capacity(std::max<int64_t>(0, budget_ - elsewhere_ - reserved()));
  }

  void run(std::span<const Segment> segments, ContextAttention& attention, Activations& act) {
    int64_t held_before = 0, held_after = 0;
    for (const Segment& s : segments) {
      if (s.position == s.context->processed()) held_before += s.context->held_bytes();
      s.context->begin(s.tokens);
    }
    transformer_.forward(segments, attention, act);
    int64_t row = 0;
    for (const Segment& s : segments) {
      const auto tokens = static_cast<int64_t>(s.tokens.size());
      row += tokens;
      if (s.position + tokens != s.context->begun()) continue;  // more blocks of it follow
      const int32_t hidden = model_->config.hidden;
      s.context->finish(act.x.data() + (row - 1) * hidden, hidden, store_, cache_, threads_);
      held_after += s.context->held_bytes();
    }
    if (held_after != held_before) update_cache_capacity();
  }

  // A pass that fails leaves its contexts half extended: they go, to be restored from their tokens.
  void run_or_close(std::span<const Segment> segments) {
    try {
      guard([&] { run(segments, attention_, activations_); });
    } catch (...) {
      for (const Segment& s : segments) close(s.context->id());
      throw;
    }
  }

  // Constant after construction.
  const std::shared_ptr<const Model> model_;
  const int64_t budget_, elsewhere_;
  const kernels::KvType kv_type_;
  UnitStore& store_;  // of this engine alone
  // The engine's thread.
  const std::unique_ptr<ShardRing> ring_;  // null: no other shards
  const std::unique_ptr<ShardUnits> ring_units_;
  kernels::ThreadPool threads_;
  const std::shared_ptr<const CpuWeights> weights_;
  const std::string fingerprint_;
  UnitCache cache_;
  Transformer transformer_;
  ContextAttention attention_;
  Activations activations_;
  std::unordered_map<ContextId, std::unique_ptr<Context>> contexts_;
  std::unordered_map<ContextId, Return> returns_;  // on their way back
  int64_t aside_ = 0;                              // held by units being made again
  std::vector<float> logits_, scratch_, sampling_;
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(std::shared_ptr<const Model> model,
                                        const EngineOptions& options, UnitStore& units,
                                        std::shared_ptr<const CpuWeights> weights) {
  return std::make_unique<CpuEngine>(std::move(model), std::move(weights), options, units, nullptr);
}

std::unique_ptr<Engine> make_shard_engine(std::shared_ptr<const Model> model,
                                          const EngineOptions& options, UnitStore& own_units,
                                          ShardTransport& transport,
                                          std::shared_ptr<const CpuWeights> weights) {
  return std::make_unique<CpuEngine>(std::move(model), std::move(weights), options, own_units,
                                     transport.shards() > 1 ? &transport : nullptr);
}

}  // namespace ringtide::model
