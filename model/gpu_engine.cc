// The engine of a GPU, or of one of a ring: contexts, their budget, and who runs in which pass.
#include <unistd.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "model/blocks.h"
#include "model/engine.h"
#include "model/gpu_passes.h"
#include "model/gpu_ring_units.h"
#include "model/gpu_shared.h"
#include "model/restore.h"

namespace ringtide::model {
namespace {

int64_t physical_memory() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * int64_t{sysconf(_SC_PAGESIZE)};
}

std::string mib(int64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20); }

struct GpuMemory {
  int64_t limit = 0;  // of the device, for all
  int64_t fixed = 0;  // weights, activations
  int64_t sessions() const { return limit - fixed; }
};

GpuMemory plan_memory(const Model& model, const EngineOptions& options,
                      const kernels::GpuInfo& gpu) {
  GpuMemory plan;
  plan.limit = options.gpu_memory > 0 ? std::min(options.gpu_memory, gpu.free_bytes)
                                      : gpu.free_bytes / 10 * 9;
  const int64_t scratch = plan.limit / 64;
  plan.fixed =
      GpuWeights::bytes(model) + GpuPasses::bytes(model.config, options.pass_tokens, false) + scratch;
  return plan;
}

// A context, which can be made again where it stands.
struct Sequence final : Resumable {
  std::unique_ptr<GpuContext> context;
  int64_t processed() const override { return context->processed(); }
  const std::vector<UnitKey>& stored_pages(const History& history) const override {
    return context->stored_pages(history);
  }
  std::vector<int64_t> absent(const History& history, int64_t tokens,
                              UnitStore& store) const override {
    return context->absent(history, tokens, store);
  }
  std::vector<int64_t> take_up(const History& history, const TakeUp& at,
                               UnitStore& store) override {
    return context->take_up(history, at, store);
  }
};

class GpuEngine final : public Engine {
 public:
  GpuEngine(const GpuShared& shared, int64_t bytes, UnitStore& store)
      : gpu_(shared.gpu),
        model_(shared.model),
        weights_(shared.weights),
        options_(shared.options),
        ring_(shared.ring),
        budget_((options_.ram_budget > 0 ? options_.ram_budget : physical_memory() / 2) / shards()),
        fingerprint_(model_->fingerprint + "/bf16-gpu/3"),
        agreed_(ring_ ? std::make_unique<GpuRingUnits>(store, *ring_) : nullptr),
        store_(agreed_ ? *agreed_ : store),
        arena_(*gpu_, model_->config.head_dim, bytes),
        angles_(*gpu_, model_->config.rope_inv_freq, options_.pass_tokens),
        spill_(*gpu_, store),
        host_(gpu_, std::max<int64_t>(0, budget_ - options_.ram_elsewhere / shards()),
              [this](const UnitKey& key) {
                for (GpuContext* context : home_.living) context->forgotten(key);
              }),
        home_{*gpu_, arena_, angles_, spill_, host_, {}, {}, ring_},
        passes_(*gpu_, *model_, *weights_, home_, store, options_.pass_tokens) {
    home_.gone = [this](const GpuContext& context) { passes_.forget(context); };
  }

  ~GpuEngine() override {
    contexts_.clear();
    returns_.clear();
  }

  void open(ContextId id, const PolicyConfig& config) override {
    close(id);
    require_fits(config, History(config, fingerprint_));
    contexts_[id] = make_sequence(id, config);
  }

  void restore(ContextId id, const PolicyConfig& config, std::vector<TokenId> tokens,
               std::vector<int32_t> block_lengths) override {
    close(id);
    History history = History::of(config, fingerprint_, tokens, block_lengths);
    require_fits(config, history);
    returns_.insert_or_assign(id, Return(std::move(history)));
  }

  Replay replay(ContextId id) override {
    const auto found = returns_.find(id);
    if (found == returns_.end()) return {.finished = true};
    Return& back = found->second;
    try {
      back.step(restoring(id, back.history().policy()));
    } catch (...) {
      close(id);
      throw;
    }
    const Replay replay{back.done(), back.total(), back.finished()};
    if (replay.finished) {
      contexts_[id].reset(static_cast<Sequence*>(back.take().release()));
      contexts_[id]->context->counters.units_recomputed += back.rebuilt();
      contexts_[id]->context->counters.tokens_rerun += back.done();
      returns_.erase(found);
    }
    return replay;
  }

  void close(ContextId id) override {
    contexts_.erase(id);
    returns_.erase(id);
    std::erase_if(pools_, [this](const auto& pool) {
      return std::none_of(home_.living.begin(), home_.living.end(), [&](const GpuContext* c) {
        return c->layout().unit == pool.first;
      });
    });
  }

  bool has(ContextId id) const override { return contexts_.contains(id) || returns_.contains(id); }

  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    const auto length = static_cast<int32_t>(tokens.size());
    prefill(id, tokens, {&length, 1});
  }

  void prefill(ContextId id, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths) override {
    Sequence& sequence = get(id);
    const int64_t block = sequence.context->policy().config().block;
    require_whole_blocks(sequence.processed(), block, static_cast<int64_t>(tokens.size()), lengths);
    try {
      run_blocks(sequence, tokens, lengths);
    } catch (...) {
      close(id);
      throw;
    }
  }

  void decode(std::span<const DecodeRow> rows) override {
    for (const DecodeRow& row : rows) get(row.context);
    try {
      decode_rows(rows);
    } catch (...) {
      for (const DecodeRow& row : rows) close(row.context);
      throw;
    }
  }

  TokenId sample(ContextId id, const SamplingParams& params) override {
    const SampleRow row{id, params};
    TokenId token;
    sample({&row, 1}, {&token, 1});
    return token;
  }

  void sample(std::span<const SampleRow> rows, std::span<TokenId> tokens) override {
    std::vector<GpuContext*> contexts;
    std::vector<SamplingParams> params;
    for (const SampleRow& row : rows) {
      contexts.push_back(&started(row.context));
      params.push_back(row.params);
    }
    passes_.sample(contexts, params, tokens);
  }

  std::span<const float> logits(ContextId id) override {
    GpuContext& context = started(id);
    logits_.resize(model_->config.vocabulary);
    gpu_->copy(logits_.data(), passes_.logits(context),
               static_cast<int64_t>(logits_.size() * sizeof(float)));
    gpu_->synchronize();
    return logits_;
  }

  ContextStats stats(ContextId id) const override {
    passes_.settle();
    spill_.settle(false);
    return contexts_.at(id)->context->stats();
  }

  EngineStats stats() const override {
    return {.ram_budget = budget_,
            .ram_used = host_.bytes(),
            .gpu_budget = arena_.bytes(),
            .gpu_used = arena_.bytes() - arena_.free_bytes(),
            .unit_cache_bytes = host_.bytes(),
            .contexts = static_cast<int64_t>(contexts_.size())};
  }

  std::vector<UnitUse> last_used(ContextId id) const override {
    passes_.settle();
    std::vector<int64_t> picked = contexts_.at(id)->context->picked;
    std::sort(picked.begin(), picked.end());
    std::vector<UnitUse> uses;
    for (int64_t u : picked) {
      if (uses.empty() || uses.back().unit != u) uses.push_back({u, 0});
      ++uses.back().layers;
    }
    return uses;
  }

  int64_t units_awaited(ContextId id) const override {
    passes_.settle();
    return contexts_.at(id)->context->units_awaited;
  }

  bool hand_over() override { return spill_.settle(false); }

  bool store_pages(bool on) override {
    home_.stores_pages = on;
    return true;
  }

  bool imagine(ContextId id, const PolicyConfig& config, int64_t tokens) override {
    open(id, config);
    get(id).context->imagine(tokens);
    return true;
  }

 private:
  // -- memory ----

  GpuLayout layout(const PolicyConfig& config) const {
    const ModelConfig& c = model_->config;
    return {c.layers, {c.heads, c.kv_heads, c.head_dim}, config.unit, ring_ ? ring_->shard() : 0,
            shards()};
  }

  // Throws ModelError where the policy cannot be served, or not even alone; OutOfBudget where others
  // hold what it would take.
  void require_fits(const PolicyConfig& config, const History& history) const {
    validate(config);
    if (const std::string why = gpu_refusal(config, options_); !why.empty())
      throw ModelError("the GPU cannot serve this policy: " + why + "; use --device cpu");
    const auto policy = make_policy(config);
    const GpuLayout shape = layout(config);
    const auto units = static_cast<int64_t>(history.keys().size());
    int64_t need = GpuContext::reserved_bytes(*policy, shape);
    if (config.kind == PolicyKind::Exact) need += units * shape.payload_bytes();
    if (policy->represents())
      need += (units / kernels::cuda::kIndexGroup + 1) * GpuIndex::group_bytes(shape);
    const std::string what = "a session with a window of " + std::to_string(config.window) +
                             " tokens and " + std::to_string(units) + " units needs " + mib(need) +
                             " MiB of GPU memory";
    if (need > arena_.bytes())
      throw ModelError(what + ", more than the " + mib(arena_.bytes()) +
                       " MiB there are for sessions: raise --gpu-memory, choose a smaller --window "
                       "or a policy that keeps less");
    if (need > arena_.free_bytes())
      throw OutOfBudget(what + "; " + mib(arena_.free_bytes()) + " of " + mib(arena_.bytes()) +
                        " MiB are free");
  }

  struct Pool {
    Pool(kernels::Gpu& gpu, GpuArena& arena, const GpuLayout& layout) : pages(gpu, arena, layout) {}
    GpuPages pages;
    int64_t extra = 0;  // pages beyond what contexts reserve, for long passes
  };

  Pool& pool(const PolicyConfig& config) {
    if (const auto found = pools_.find(config.unit); found != pools_.end()) return found->second;
    Pool& made = pools_.try_emplace(config.unit, *gpu_, arena_, layout(config)).first->second;
    // A pass's pages, and those of the pass before, on their way to the host.
    const int64_t pages = 2 * int64_t{options_.pass_tokens} / config.unit;
    const int64_t bytes = (pages + 1) / 2 * GpuPages::pair_bytes(layout(config));
    if (bytes < arena_.free_bytes() / 4) {
      made.pages.reserve(pages);
      made.extra = pages;
    }
    return made;
  }

  std::unique_ptr<Sequence> make_sequence(ContextId id, const PolicyConfig& config) {
    Pool& pool = this->pool(config);
    auto sequence = std::make_unique<Sequence>();
    sequence->context = std::make_unique<GpuContext>(id, make_policy(config), layout(config), home_,
                                                     pool.pages, model_->config.hidden,
                                                     fingerprint_);
    return sequence;
  }

  // -- passes ----

  Sequence& get(ContextId id) {
    const auto found = contexts_.find(id);
    if (found == contexts_.end())
      throw std::logic_error("context " + std::to_string(id) + " is not open");
    return *found->second;
  }
  GpuContext& started(ContextId id) {
    GpuContext& context = *get(id).context;
    if (context.processed() == 0) throw std::logic_error("logits: nothing has been processed");
    return context;
  }

  // In passes of as many blocks as there is room for. Which tokens share a pass changes no bit; that
  // a block of one token takes the way of decoded tokens is a function of the blocks.
  void run_blocks(Sequence& sequence, std::span<const TokenId> tokens,
                  std::span<const int32_t> lengths) {
    const PolicyConfig config = sequence.context->policy().config();
    const int64_t most =
        std::min<int64_t>(options_.pass_tokens, pool(config).extra * config.unit / 2);
    while (!lengths.empty()) {
      int64_t n = lengths[0];
      size_t blocks = 1;
      while (n > 1 && blocks < lengths.size() && lengths[blocks] > 1 && n + lengths[blocks] <= most)
        n += lengths[blocks++];
      const auto now = tokens.first(n);
      recovering(sequence, [&] {
        if (n == 1) {
          const GpuPasses::Row row{sequence.context.get(), now[0]};
          passes_.decode({&row, 1});
        } else {
          passes_.prefill(*sequence.context, now, lengths.first(blocks));
        }
      });
      tokens = tokens.subspan(n);
      lengths = lengths.subspan(blocks);
    }
  }

  void decode_rows(std::span<const DecodeRow> rows) {
    // Rows whose contexts have the same policy share a step.
    std::vector<std::pair<PolicyConfig, std::vector<DecodeRow>>> groups;
    for (const DecodeRow& row : rows) {
      const PolicyConfig& config = get(row.context).context->policy().config();
      auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) {
        return g.first == config && g.second.size() < kernels::cuda::kFewRows;
      });
      if (group == groups.end()) group = groups.insert(group, {config, {}});
      group->second.push_back(row);
    }
    for (const auto& [config, group] : groups) {
      std::vector<bool> absent;  // units that are only in the store
      for (const DecodeRow& row : group) {
        GpuContext& context = *get(row.context).context;
        context.begin(1);
        absent.push_back(context.index().absent() > 0);
      }
      if (ring_) ring_->any(absent);
      std::vector<GpuPasses::Row> together;
      std::vector<DecodeRow> alone;
      for (size_t i = 0; i < group.size(); ++i) {
        if (absent[i])
          alone.push_back(group[i]);
        else
          together.push_back({get(group[i].context).context.get(), group[i].token});
      }
      if (!together.empty()) passes_.decode(together);
      for (const DecodeRow& row : alone) run_blocks(get(row.context), {&row.token, 1}, {&kOne, 1});
    }
  }

  // -- restoring ----

  Passes restoring(ContextId id, const PolicyConfig& config) {
    return {[this, id, config] { return make_sequence(id, config); },
            [this](Resumable& resumable, std::span<const TokenId> block, std::span<const size_t>) {
              const auto length = static_cast<int32_t>(block.size());
              run_blocks(static_cast<Sequence&>(resumable), block, {&length, 1});
              spill_.settle(true);  // what a later step stands on is in the store
            },
            store_};
  }

  // Runs a pass; where it needs units that are lost, makes them and the context again and repeats.
  template <class Pass>
  void recovering(Sequence& sequence, Pass pass) {
    std::set<int64_t> recovered;
    for (;;) {
      std::vector<int64_t> lost;
      try {
        return pass();
      } catch (LostUnits& why) {
        lost = std::move(why.units);
      }
      for (const int64_t unit : lost)
        if (!recovered.insert(unit).second)
          throw std::runtime_error("unit " + std::to_string(unit) +
                                   " was recomputed but the store does not give it back");
      make_again(sequence, lost);
    }
  }

  void make_again(Sequence& sequence, const std::vector<int64_t>& lost) {
    const ContextId id = sequence.context->id();
    ContextStats counters = sequence.context->counters;
    const History history = sequence.context->history();
    const Passes passes = restoring(id, history.policy());
    sequence.context.reset();
    Rebuild rebuild(lost);
    while (!rebuild.done()) rebuild.step(history, passes);
    Return back(history);
    while (!back.finished()) back.step(passes);
    sequence.context = std::move(static_cast<Sequence&>(*back.take()).context);
    counters.units_recomputed += rebuild.rebuilt() + back.rebuilt();
    sequence.context->counters = counters;
  }

  static constexpr int32_t kOne = 1;

  int shards() const { return ring_ ? ring_->shards() : 1; }

  // Constant after construction.
  const std::shared_ptr<kernels::Gpu> gpu_;
  const std::shared_ptr<const Model> model_;
  const std::shared_ptr<const GpuWeights> weights_;
  const EngineOptions options_;
  GpuRingLink* const ring_;  // null: alone
  const int64_t budget_;     // of host memory
  const std::string fingerprint_;
  const std::unique_ptr<GpuRingUnits> agreed_;  // of a ring
  UnitStore& store_;                            // that contexts are restored from
  // The engine's thread.
  GpuArena arena_;
  GpuAngles angles_;
  mutable GpuSpill spill_;
  HostUnits host_;
  GpuHome home_;
  mutable GpuPasses passes_;
  std::unordered_map<int32_t, Pool> pools_;  // by unit
  std::unordered_map<ContextId, std::unique_ptr<Sequence>> contexts_;
  std::unordered_map<ContextId, Return> returns_;  // on their way back
  std::vector<float> logits_;
};

}  // namespace

std::string gpu_refusal(const Model& model, const EngineOptions& options,
                        const kernels::GpuInfo& gpu) {
  if (std::string why = GpuWeights::refusal(model); !why.empty()) return why;
  const GpuMemory plan = plan_memory(model, options, gpu);
  if (plan.sessions() >= plan.limit / 64) return "";
  return "it needs " + mib(plan.fixed) + " MiB of GPU memory before any session, and " +
         mib(plan.limit) + " of " + mib(gpu.total_bytes) +
         " MiB may be used: raise --gpu-memory, or free some";
}

std::string gpu_refusal(const PolicyConfig& policy, const EngineOptions& options) {
  if (policy.unit % 8 != 0) return "unit (" + std::to_string(policy.unit) + ") must be a multiple of 8";
  if (policy.block > options.pass_tokens)
    return "block (" + std::to_string(policy.block) + ") must be at most " +
           std::to_string(options.pass_tokens);
  if (policy.kind == PolicyKind::InfLlm && policy.true_positions)
    return "units at their true positions are served by the CPU only";
  return "";
}

std::unique_ptr<Engine> make_gpu_window_engine(const GpuShared& shared, int64_t bytes,
                                               UnitStore& units) {
  return std::make_unique<GpuEngine>(shared, bytes, units);
}

std::unique_ptr<Engine> make_gpu_engine(std::shared_ptr<kernels::Gpu> gpu,
                                        std::shared_ptr<const Model> model,
                                        const EngineOptions& options, UnitStore& units) {
  const kernels::GpuInfo info = gpu->info();
  if (const std::string why = gpu_refusal(*model, options, info); !why.empty())
    throw ModelError("the GPU cannot serve this model: " + why);
  const int64_t bytes = plan_memory(*model, options, info).sessions();
  auto weights = std::make_shared<const GpuWeights>(*gpu, *model);
  return make_gpu_window_engine(
      {std::move(gpu), std::move(model), std::move(weights), options, nullptr}, bytes, units);
}

}  // namespace ringtide::model
