// The engine of this machine's processors: contexts, their budget, and passes over them.
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <unordered_map>

#include "model/context.h"
#include "model/context_attention.h"
#include "model/engine.h"
#include "model/model.h"
#include "model/restore.h"
#include "model/sampler.h"
#include "model/transformer.h"

namespace ringtide::model {
namespace {

// Payloads of one layer that the cache must have room for at once: a batch of attention's.
constexpr int64_t kCacheFloorUnits = 64;

int64_t physical_memory() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * int64_t{sysconf(_SC_PAGESIZE)};
}

class CpuEngine final : public Engine {
 public:
  CpuEngine(std::shared_ptr<const Model> model, const EngineOptions& options, UnitStore& store)
      : model_(std::move(model)),
        budget_(options.ram_budget > 0 ? options.ram_budget : physical_memory() / 2),
        kv_type_(options.half_kv ? kernels::KvType::F16 : kernels::KvType::F32),
        fingerprint_(model_->fingerprint + (options.half_kv ? "/kv16/1" : "/kv32/1")),
        store_(store),
        threads_(options.threads > 0 ? options.threads
                                     : std::max(1u, std::thread::hardware_concurrency())),
        cache_(store),
        transformer_(*model_, threads_),
        attention_(make_attention()) {}

  void open(ContextId id, const PolicyConfig& config) override {
    auto context = make_context(id, config);
    reserve(config, context->layout());
    contexts_[id] = std::move(context);
    update_cache_capacity();
  }

  void restore(ContextId id, const PolicyConfig& config, std::vector<TokenId> tokens,
               std::vector<int32_t> block_lengths) override {
    History history(config, fingerprint_);
    size_t at = 0;
    for (int32_t length : block_lengths) {
      if (length <= 0 || at + length > tokens.size())
        throw ModelError("restore: block lengths do not fit the tokens");
      history.add(std::span(tokens).subspan(at, length));
      at += length;
    }
    if (at != tokens.size()) throw ModelError("restore: block lengths do not cover the tokens");
    open(id, config);
    try {
      contexts_[id] = take_up_at(id, config, history, history.tokens());
    } catch (...) {
      close(id);
      throw;
    }
    const int64_t from = contexts_[id]->processed();
    pasts_.insert_or_assign(id, Past{std::move(history), from});
    update_cache_capacity();
  }

  Replay replay(ContextId id) override {
    Context& context = *contexts_.at(id);
    const auto past = pasts_.find(id);
    if (past == pasts_.end()) return {};
    const auto& [history, from] = past->second;
    const auto& ends = history.block_ends();
    const size_t next =
        std::upper_bound(ends.begin(), ends.end(), context.processed()) - ends.begin();
    const Segment segment{&context, history.block(next)};
    run_or_close({&segment, 1});
    const Replay replay{context.processed() - from, history.tokens() - from};
    if (replay.finished()) pasts_.erase(past);
    return replay;
  }

  void close(ContextId id) override {
    contexts_.erase(id);
    pasts_.erase(id);
    update_cache_capacity();
  }

  bool has(ContextId id) const override { return contexts_.contains(id); }

  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    Context& context = get(id);
    const int64_t block = context.policy().config().block;
    if (tokens.empty() || context.processed() % block + static_cast<int64_t>(tokens.size()) > block)
      throw std::logic_error("prefill: tokens must be one execution block");
    const Segment segment{&context, tokens};
    run_or_close({&segment, 1});
  }

  void decode(std::span<const DecodeRow> rows) override {
    std::vector<Segment> segments;
    for (const DecodeRow& row : rows)
      segments.push_back({&get(row.context), std::span(&row.token, 1)});
    run_or_close(segments);
    const size_t vocabulary = model_->config.vocabulary;
    logits_.resize(rows.size() * vocabulary);
    transformer_.logits(activations_.x.data(), static_cast<int64_t>(rows.size()), logits_.data(),
                        scratch_);
    for (size_t i = 0; i < segments.size(); ++i)
      segments[i].context->logits.assign(logits_.begin() + i * vocabulary,
                                         logits_.begin() + (i + 1) * vocabulary);
  }

  std::span<const float> logits(ContextId id) override {
    Context& context = get(id);
    if (context.hidden.empty()) throw std::logic_error("logits: nothing has been processed");
    if (context.logits.empty()) {
      context.logits.resize(model_->config.vocabulary);
      transformer_.logits(context.hidden.data(), 1, context.logits.data(), scratch_);
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
  ContextAttention make_attention() {
    return ContextAttention(cache_, threads_, [this](Context& context, const auto& lost) {
      recompute(context.history(), context.id(), lost);
      context.counters.units_recomputed += static_cast<int64_t>(lost.size());
    });
  }

  Context& get(ContextId id) {
    auto found = contexts_.find(id);
    if (found == contexts_.end())
      throw std::logic_error("context " + std::to_string(id) + " is not open");
    if (pasts_.contains(id))
      throw std::logic_error("context " + std::to_string(id) + " is not restored yet");
    return *found->second;
  }

  std::unique_ptr<Context> make_context(ContextId id, const PolicyConfig& config) const {
    std::shared_ptr<const MemoryPolicy> policy = make_policy(config);
    const ModelConfig& c = model_->config;
    const PageLayout layout{
        c.layers, {c.heads, c.kv_heads, c.head_dim}, config.unit, kv_type_, policy->represents()};
    return std::make_unique<Context>(id, std::move(policy), layout, c.rope_inv_freq, fingerprint_);
  }

  // Bytes of the window that a context may come to hold: the pages in reach of a block, and page 0.
  static int64_t window_reserve(const PolicyConfig& config, const PageLayout& layout) {
    return (config.window / config.unit + config.block / config.unit + 2) * layout.page_bytes();
  }

  int64_t reserved() const {
    int64_t bytes = 0;
    for (const auto& [id, c] : contexts_)
      bytes += window_reserve(c->policy().config(), c->layout()) + c->index_bytes();
    return bytes;
  }

  // Throws OutOfBudget if a context of this shape cannot be had beside the others.
  void reserve(const PolicyConfig& config, const PageLayout& layout) const {
    const int64_t window = window_reserve(config, layout);
    const int64_t floor = kCacheFloorUnits * layout.chunk_bytes();
    if (reserved() + window + floor <= budget_) return;
    throw OutOfBudget("a session with a window of " + std::to_string(config.window) +
                      " tokens needs " + std::to_string((window + floor) >> 20) +
                      " MiB of memory; the budget of " + std::to_string(budget_ >> 20) +
                      " MiB has " + std::to_string((budget_ - reserved()) >> 20) + " MiB left");
  }

  void update_cache_capacity() { cache_.set_capacity(std::max<int64_t>(0, budget_ - reserved())); }

  void run(std::span<const Segment> segments, ContextAttention& attention, Activations& act) {
    int64_t index_before = 0, index_after = 0;
    for (const Segment& s : segments) {
      index_before += s.context->index_bytes();
      s.context->begin(s.tokens);
    }
    transformer_.forward(segments, attention, act);
    int64_t row = 0;
    for (const Segment& s : segments) {
      row += static_cast<int64_t>(s.tokens.size());
      const int32_t hidden = model_->config.hidden;
      s.context->finish(act.x.data() + (row - 1) * hidden, hidden, store_, cache_, threads_);
      index_after += s.context->index_bytes();
    }
    if (index_after != index_before) update_cache_capacity();
  }

  // A pass that fails leaves its contexts half extended: they go, to be restored from their tokens.
  void run_or_close(std::span<const Segment> segments) {
    try {
      run(segments, attention_, activations_);
    } catch (...) {
      for (const Segment& s : segments) close(s.context->id());
      throw;
    }
  }

  // A context at the last point at or before `limit` from which the store lets it go on.
  std::unique_ptr<Context> take_up_at(ContextId id, const PolicyConfig& config,
                                      const History& history, int64_t limit) {
    for (;;) {
      auto context = make_context(id, config);
      const TakeUp at = find_take_up(history, limit, store_);
      if (at.tokens == 0) return context;
      if (context->layout().representatives) {
        const auto absent = absent_units(history, history.sealed_at(at.tokens), store_);
        if (!absent.empty()) recompute(history, id, absent);
      }
      const auto lost = take_up(*context, history, at, fingerprint_, store_);
      if (lost.empty()) return context;
      recompute(history, id, lost);
    }
  }

  // Runs the blocks of `history` that `context` has not, until `unit` is sealed.
  void run_until_sealed(Context& context, const History& history, int64_t unit) {
    const auto& ends = history.block_ends();
    size_t b = std::upper_bound(ends.begin(), ends.end(), context.processed()) - ends.begin();
    // Its own activations: a pass of another context may be waiting for this one.
    Activations act;
    ContextAttention attention = make_attention();
    for (; b < ends.size() && context.sealed() <= unit; ++b) {
      const Segment segment{&context, history.block(b)};
      run({&segment, 1}, attention, act);
    }
  }

  // Runs again what is needed for units (ascending) to be sealed and put once more. Units close to
  // each other share a run. Takes up below the first, so that recursion ends.
  void recompute(const History& history, ContextId id, const std::vector<int64_t>& units) {
    const PolicyConfig& config = history.policy();
    const int64_t near = config.window / config.unit;
    for (size_t first = 0; first < units.size();) {
      size_t last = first;
      while (last + 1 < units.size() && units[last + 1] - units[last] <= near) ++last;
      auto context = take_up_at(id, config, history, units[first] * config.unit);
      run_until_sealed(*context, history, units[last]);
      first = last + 1;
    }
  }

  // Constant after construction.
  const std::shared_ptr<const Model> model_;
  const int64_t budget_;
  const kernels::KvType kv_type_;
  const std::string fingerprint_;
  UnitStore& store_;
  // The engine's thread.
  kernels::ThreadPool threads_;
  UnitCache cache_;
  Transformer transformer_;
  ContextAttention attention_;
  Activations activations_;
  std::unordered_map<ContextId, std::unique_ptr<Context>> contexts_;
  struct Past {
    History history;  // what a restored context is to have processed
    int64_t from;     // tokens it was taken up with
  };
  std::unordered_map<ContextId, Past> pasts_;  // of contexts not yet there
  std::vector<float> logits_, scratch_, sampling_;
};

}  // namespace

std::unique_ptr<Engine> make_cpu_engine(std::shared_ptr<const Model> model,
                                        const EngineOptions& options, UnitStore& units) {
  return std::make_unique<CpuEngine>(std::move(model), options, units);
}

}  // namespace ringtide::model
