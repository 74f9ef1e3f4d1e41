#include "tests/support/fake_engine.h"

#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "tests/support/fake_tokenizer.h"

namespace ringtide::testing {

using model::ContextId;
using model::TokenId;

namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  hash ^= hash >> 31;
  return hash * 0xbf58476d1ce4e5b9u;
}

}  // namespace

class FakeEngine : public model::Engine {
 public:
  FakeEngine(FakeWorld& world, model::UnitStore* units) : world_(world), units_(units) {}

  void open(ContextId id, const model::PolicyConfig& policy) override {
    world_.note({FakePass::Kind::Open, {id}, 0});
    make(id, policy);
  }

  void restore(ContextId id, const model::PolicyConfig& policy, std::vector<TokenId> tokens,
               std::vector<int32_t> lengths) override {
    const auto total = static_cast<int64_t>(tokens.size());
    world_.note({FakePass::Kind::Restore, {id}, total});
    if (std::accumulate(lengths.begin(), lengths.end(), int64_t{0}) != total) {
      throw std::logic_error("restore: the blocks do not sum to the tokens");
    }
    make(id, policy);
    pasts_[id] = {std::move(tokens), std::move(lengths)};
  }

  Replay replay(ContextId id) override {
    Past& past = pasts_.at(id);
    const auto from = past.tokens.begin() + past.done;
    const int32_t length = past.lengths.at(past.blocks++);
    world_.note({FakePass::Kind::Replay, {id}, length});
    run(id, {from, from + length});
    past.done += length;
    const auto total = static_cast<int64_t>(past.tokens.size());
    const Replay replay{past.done, total, past.done == total};
    if (replay.finished) pasts_.erase(id);
    return replay;
  }

  void close(ContextId id) override {
    contexts_.erase(id);
    pasts_.erase(id);
  }
  bool has(ContextId id) const override { return contexts_.contains(id); }

  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    world_.note({FakePass::Kind::Prefill, {id}, static_cast<int64_t>(tokens.size())});
    run(id, tokens);
  }

  void decode(std::span<const model::DecodeRow> rows) override {
    FakePass pass{FakePass::Kind::Decode, {}, static_cast<int64_t>(rows.size())};
    for (const auto& row : rows) pass.contexts.push_back(row.context);
    world_.note(pass);
    for (const auto& row : rows) run(row.context, {&row.token, 1});
  }

  TokenId sample(ContextId id, const model::SamplingParams& params) override {
    const Context& context = contexts_.at(id);
    if (context.stats.tokens == 0) throw std::logic_error("sample before any token");
    uint64_t hash = context.hash;
    if (params.temperature > 0) hash = mix(mix(hash, params.seed), context.stats.tokens);
    hash = mix(hash, 7);
    if (world_.end_every > 0 && (hash >> 40) % world_.end_every == 0) return kTurnEnd;
    const auto letter = [&](int shift) {
      const unsigned n = (hash >> shift) % 27;
      return static_cast<unsigned char>(n == 26 ? ' ' : 'a' + n);
    };
    // Now and then a character in two tokens.
    if ((hash >> 50) % 16 == 0) return (hash >> 10) & 1 ? 0xc3 : 0xa9;
    return FakeTokenizer::pair(letter(8), letter(24));
  }

  bool hand_over() override {
    if (sealed_.empty()) return true;
    if (--late_ > 0) return false;
    world_.note({FakePass::Kind::HandOver, {}, static_cast<int64_t>(sealed_.size())});
    for (auto& [id, unit] : sealed_) units_->put(id, std::move(unit));
    sealed_.clear();
    return true;
  }

  std::span<const float> logits(ContextId) override { return {}; }
  model::ContextStats stats(ContextId id) const override { return contexts_.at(id).stats; }
  model::EngineStats stats() const override {
    return {.ram_budget = 1 << 20,
            .ram_used = static_cast<int64_t>(contexts_.size()) * 1024,
            .contexts = static_cast<int64_t>(contexts_.size())};
  }
  std::vector<model::UnitUse> last_used(ContextId) const override { return {}; }

 private:
  struct Context {
    int32_t block = 0;
    uint64_t hash = 1;
    model::ContextStats stats;
  };

  void make(ContextId id, const model::PolicyConfig& policy) {
    if (contexts_.contains(id)) throw std::logic_error("the context exists already");
    if (contexts_.size() >= world_.max_contexts) throw model::OutOfBudget("no room for a context");
    Context& context = contexts_[id];
    context.block = policy.block;
    context.stats.window_bytes = 1024;
  }

  void run(ContextId id, std::span<const TokenId> tokens) {
    Context& context = contexts_.at(id);
    const auto length = static_cast<int64_t>(tokens.size());
    if (length == 0 || context.stats.tokens % context.block + length > context.block) {
      throw std::logic_error("a block crosses a multiple of the block length");
    }
    for (const TokenId token : tokens) {
      context.hash = mix(context.hash, static_cast<uint64_t>(token));
      ++context.stats.tokens;
      if (units_ && world_.unit && context.stats.tokens % world_.unit == 0) seal(id, context);
    }
    context.hash = mix(context.hash, 0xb10c + length);
    late_ = world_.late;
  }

  void seal(ContextId id, Context& context) {
    auto bytes = std::make_shared<std::vector<std::byte>>(64);
    std::memcpy(bytes->data(), &context.hash, sizeof(context.hash));
    model::SealedUnit unit;
    unit.key = {context.hash, static_cast<uint64_t>(context.stats.tokens)};
    unit.number = context.stats.units++;
    unit.parts = {std::span<const std::byte>(*bytes)};
    unit.owner = bytes;
    if (world_.late > 0)
      sealed_.emplace_back(id, std::move(unit));
    else
      units_->put(id, std::move(unit));
  }

  FakeWorld& world_;
  model::UnitStore* units_;
  std::vector<std::pair<ContextId, model::SealedUnit>> sealed_;  // on their way
  int late_ = 0;
  struct Past {
    std::vector<TokenId> tokens;
    std::vector<int32_t> lengths;
    size_t blocks = 0;
    int64_t done = 0;
  };
  std::map<ContextId, Context> contexts_;
  std::map<ContextId, Past> pasts_;
};

std::unique_ptr<model::Engine> FakeWorld::make(model::UnitStore* units) {
  const std::lock_guard lock(mutex_);
  ++engines_;
  return std::make_unique<FakeEngine>(*this, units);
}

void FakeWorld::before_pass(std::function<void(const FakePass&)> hook) {
  const std::lock_guard lock(mutex_);
  hook_ = std::move(hook);
}

void FakeWorld::note(const FakePass& pass) {
  std::function<void(const FakePass&)> hook;
  {
    const std::lock_guard lock(mutex_);
    passes_.push_back(pass);
    hook = hook_;
  }
  changed_.notify_all();
  if (hook) hook(pass);
}

std::vector<FakePass> FakeWorld::passes() const {
  const std::lock_guard lock(mutex_);
  return passes_;
}

int64_t FakeWorld::count(FakePass::Kind kind) const {
  int64_t n = 0;
  for (const FakePass& pass : passes()) n += pass.kind == kind;
  return n;
}

bool FakeWorld::wait_for(const std::function<bool(const FakePass&)>& holds) const {
  std::unique_lock lock(mutex_);
  size_t seen = 0;
  return changed_.wait_for(lock, std::chrono::minutes(1), [&] {
    for (; seen < passes_.size(); ++seen) {
      if (holds(passes_[seen])) return true;
    }
    return false;
  });
}

int FakeWorld::engines() const {
  const std::lock_guard lock(mutex_);
  return engines_;
}

void Gate::open() {
  {
    const std::lock_guard lock(mutex_);
    open_ = true;
  }
  changed_.notify_all();
}

void Gate::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return open_; });
}

}  // namespace ringtide::testing
