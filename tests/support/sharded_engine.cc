#include "tests/support/sharded_engine.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace ringtide::testing {
namespace {

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& why) {
    return why.what();
  }
}

bool is_ring_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const model::RingError&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

struct ShardThreads::State {
  std::mutex mutex;
  std::condition_variable changed;
  const std::function<void(int)>* body = nullptr;
  uint64_t round = 0;
  size_t busy = 0;
  bool over = false;
  std::vector<std::exception_ptr> errors;
  std::vector<std::jthread> threads;

  void serve(int shard) {
    uint64_t done = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return over || round > done; });
      if (over) return;
      done = round;
      lock.unlock();
      std::exception_ptr error;
      try {
        (*body)(shard);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      errors[shard] = error;
      if (--busy == 0) changed.notify_all();
    }
  }
};

ShardThreads::ShardThreads(int shards) : state_(std::make_unique<State>()) {
  state_->errors.resize(shards);
  for (int s = 0; s < shards; ++s)
    state_->threads.emplace_back([state = state_.get(), s] { state->serve(s); });
}

ShardThreads::~ShardThreads() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->over = true;
    state_->changed.notify_all();
  }
  for (auto& thread : state_->threads) thread.join();
}

std::vector<std::exception_ptr> ShardThreads::outcomes(const std::function<void(int)>& body) {
  std::unique_lock lock(state_->mutex);
  state_->body = &body;
  state_->busy = state_->threads.size();
  ++state_->round;
  state_->changed.notify_all();
  state_->changed.wait(lock, [&] { return state_->busy == 0; });
  return state_->errors;
}

void ShardThreads::run(const std::function<void(int)>& body) {
  const auto errors = outcomes(body);
  for (const auto& error : errors) {
    EXPECT_EQ(error == nullptr, errors[0] == nullptr) << text_of(error ? error : errors[0]);
    if (error && errors[0] && !is_ring_error(error) && !is_ring_error(errors[0])) {
      EXPECT_EQ(text_of(error), text_of(errors[0]));
    }
  }
  for (const auto& error : errors)
    if (error) std::rethrow_exception(error);
}

ShardedEngine::ShardedEngine(int shards, const std::shared_ptr<const model::Model>& model,
                             const model::EngineOptions& options,
                             const std::function<model::UnitStore&(int)>& stores,
                             const std::function<model::ShardTransport&(int)>& transports,
                             const std::shared_ptr<const model::CpuWeights>& weights)
    : threads_(std::make_unique<ShardThreads>(shards)), engines_(shards) {
  threads_->run([&](int s) {
    engines_[s] = model::make_shard_engine(model, options, stores(s), transports(s), weights);
  });
}

ShardedEngine::~ShardedEngine() = default;

void ShardedEngine::all(const std::function<void(model::Engine&)>& call) const {
  threads_->run([&](int s) { call(*engines_[s]); });
}

template <class T>
T ShardedEngine::same(const std::function<T(model::Engine&)>& ask) const {
  std::vector<std::optional<T>> answers(engines_.size());
  threads_->run([&](int s) { answers[s] = ask(*engines_[s]); });
  for (const auto& answer : answers) EXPECT_TRUE(*answer == *answers[0]) << "shards differ";
  return *answers[0];
}

void ShardedEngine::open(model::ContextId id, const model::PolicyConfig& policy) {
  all([&](model::Engine& e) { e.open(id, policy); });
}

void ShardedEngine::restore(model::ContextId id, const model::PolicyConfig& policy,
                            std::vector<model::TokenId> tokens,
                            std::vector<int32_t> block_lengths) {
  all([&](model::Engine& e) { e.restore(id, policy, tokens, block_lengths); });
}

model::Engine::Replay ShardedEngine::replay(model::ContextId id) {
  std::vector<Replay> answers(engines_.size());
  threads_->run([&](int s) { answers[s] = engines_[s]->replay(id); });
  for (const Replay& a : answers) {
    EXPECT_EQ(a.done, answers[0].done);
    EXPECT_EQ(a.total, answers[0].total);
    EXPECT_EQ(a.finished, answers[0].finished);
  }
  return answers[0];
}

void ShardedEngine::close(model::ContextId id) {
  all([&](model::Engine& e) { e.close(id); });
}

bool ShardedEngine::has(model::ContextId id) const {
  return same<bool>([&](model::Engine& e) { return e.has(id); });
}

void ShardedEngine::prefill(model::ContextId id, std::span<const model::TokenId> tokens) {
  all([&](model::Engine& e) { e.prefill(id, tokens); });
}

void ShardedEngine::decode(std::span<const model::DecodeRow> rows) {
  all([&](model::Engine& e) { e.decode(rows); });
}

model::TokenId ShardedEngine::sample(model::ContextId id, const model::SamplingParams& params) {
  return same<model::TokenId>([&](model::Engine& e) { return e.sample(id, params); });
}

std::span<const float> ShardedEngine::logits(model::ContextId id) {
  std::vector<std::span<const float>> answers(engines_.size());
  threads_->run([&](int s) { answers[s] = engines_[s]->logits(id); });
  for (const auto& a : answers)
    EXPECT_EQ(std::memcmp(a.data(), answers[0].data(), a.size_bytes()), 0) << "shards differ";
  return answers[0];
}

model::ContextStats ShardedEngine::stats(model::ContextId id) const {
  std::vector<model::ContextStats> answers(engines_.size());
  threads_->run([&](int s) { answers[s] = engines_[s]->stats(id); });
  model::ContextStats sum = answers[0];
  for (size_t s = 1; s < answers.size(); ++s) {
    const model::ContextStats& a = answers[s];
    EXPECT_EQ(a.tokens, sum.tokens);
    EXPECT_EQ(a.units, sum.units);
    EXPECT_EQ(a.units_selected, sum.units_selected);
    EXPECT_EQ(a.units_recomputed, sum.units_recomputed);
    EXPECT_EQ(a.groups_remade, sum.groups_remade);
    sum.window_bytes += a.window_bytes;
    sum.index_bytes += a.index_bytes;
    sum.reads_ram += a.reads_ram;
    sum.reads_store += a.reads_store;
  }
  return sum;
}

model::EngineStats ShardedEngine::stats() const {
  std::vector<model::EngineStats> answers(engines_.size());
  threads_->run([&](int s) { answers[s] = engines_[s]->stats(); });
  model::EngineStats most = answers[0];
  for (const auto& a : answers)
    if (a.ram_used > most.ram_used) most = a;
  return most;
}

std::vector<model::UnitUse> ShardedEngine::last_used(model::ContextId id) const {
  std::vector<std::vector<model::UnitUse>> answers(engines_.size());
  threads_->run([&](int s) { answers[s] = engines_[s]->last_used(id); });
  for (const auto& a : answers) {
    EXPECT_TRUE(std::equal(
        a.begin(), a.end(), answers[0].begin(), answers[0].end(),
        [](const auto& x, const auto& y) { return x.unit == y.unit && x.layers == y.layers; }))
        << "shards differ";
  }
  return answers[0];
}

namespace {

// With what it stands on.
class RingInProcess : public ShardedEngine {
 public:
  struct Parts {
    kernels::ring::InProcessRing ring;
    std::vector<std::unique_ptr<ShardView>> stores;
    Parts(int shards, MemoryUnits& units) : ring(shards, std::chrono::seconds(60)) {
      for (int s = 0; s < shards; ++s) stores.push_back(std::make_unique<ShardView>(units, s));
    }
  };
  RingInProcess(int shards, const std::shared_ptr<const model::Model>& model,
                const model::EngineOptions& options,
                const std::shared_ptr<const model::CpuWeights>& weights,
                std::shared_ptr<Parts> parts)
      : ShardedEngine(
            shards, model, options, [&](int s) -> model::UnitStore& { return *parts->stores[s]; },
            [&](int s) -> model::ShardTransport& { return parts->ring.at(s); }, weights),
        parts_(parts) {}

 private:
  const std::shared_ptr<Parts> parts_;
};

}  // namespace

std::unique_ptr<model::Engine> make_sharded_engine(
    int shards, const std::shared_ptr<const model::Model>& model,
    const model::EngineOptions& options, MemoryUnits& units,
    const std::shared_ptr<const model::CpuWeights>& weights) {
  return std::make_unique<RingInProcess>(shards, model, options, weights,
                                         std::make_shared<RingInProcess::Parts>(shards, units));
}

}  // namespace ringtide::testing
