// A ring of GPUs in one process: a thread for each, all of which make each call.
#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "model/gpu_ring.h"
#include "model/gpu_ring_link.h"
#include "model/model.h"

namespace ringtide::model {
namespace {

using kernels::cuda::RingLinks;

// Threads that run one piece of work after the other, each its part of it.
class ShardThreads {
 public:
  explicit ShardThreads(int n) : thrown_(n) {
    for (int s = 0; s < n; ++s) threads_.emplace_back([this, s] { work(s); });
  }
  ~ShardThreads() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
  }
  ShardThreads(const ShardThreads&) = delete;

  // body(shard) in every thread. Returns what each threw.
  std::vector<std::exception_ptr> run(const std::function<void(int)>& body) {
    std::unique_lock lock(mutex_);
    body_ = &body;
    left_ = static_cast<int>(threads_.size());
    ++round_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return left_ == 0; });
    return thrown_;
  }

 private:
  void work(int shard) {
    std::unique_lock lock(mutex_);
    for (uint64_t done = 0;; ++done) {
      changed_.wait(lock, [&] { return stop_ || round_ > done; });
      if (stop_) return;
      lock.unlock();
      std::exception_ptr thrown;
      try {
        (*body_)(shard);
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      thrown_[shard] = thrown;
      if (--left_ == 0) changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_; the body is read while a round runs.
  const std::function<void(int)>* body_ = nullptr;
  uint64_t round_ = 0;
  int left_ = 0;
  bool stop_ = false;
  std::vector<std::exception_ptr> thrown_;
  std::vector<std::thread> threads_;
};

// What all shards throw alike, so that the ring lives on.
bool is_agreed(const std::exception& e) {
  return dynamic_cast<const OutOfBudget*>(&e) || dynamic_cast<const ModelError*>(&e) ||
         dynamic_cast<const std::logic_error*>(&e);
}

class GpuRingEngine final : public Engine {
 public:
  GpuRingEngine(int shards, const std::function<std::shared_ptr<kernels::Gpu>(int shard)>& open,
                std::shared_ptr<const Model> model, const EngineOptions& options,
                const GpuRingOptions& ring, UnitStore& units)
      : gpus_(shards), engines_(shards), threads_(shards) {
    try {
      all([&](int s) { gpus_[s] = open(s); });
      std::vector<int> devices;
      for (const auto& gpu : gpus_) devices.push_back(gpu->info().index);
      all([&](int s) {
        if (s == 0)
          links_ = gpus_[0]->make_ring(devices, ring.deadline, part_floats(model->config));
      });
      all([&](int s) {
        engines_[s] = make_gpu_shard_engine(gpus_[s], model, options, ring, links_->at(s), units);
      });
    } catch (...) {
      release();
      throw;
    }
  }
  ~GpuRingEngine() override { release(); }

  void open(ContextId id, const PolicyConfig& policy) override {
    all([&](int s) { engines_[s]->open(id, policy); });
  }
  void restore(ContextId id, const PolicyConfig& policy, std::vector<TokenId> tokens,
               std::vector<int32_t> lengths) override {
    all([&](int s) { engines_[s]->restore(id, policy, tokens, lengths); });
  }
  Replay replay(ContextId id) override {
    return first<Replay>([&](Engine& e) { return e.replay(id); });
  }
  void close(ContextId id) override {
    all([&](int s) { engines_[s]->close(id); });
  }
  bool has(ContextId id) const override { return engines_[0]->has(id); }
  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    all([&](int s) { engines_[s]->prefill(id, tokens); });
  }
  void prefill(ContextId id, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths) override {
    all([&](int s) { engines_[s]->prefill(id, tokens, lengths); });
  }
  void decode(std::span<const DecodeRow> rows) override {
    all([&](int s) { engines_[s]->decode(rows); });
  }
  TokenId sample(ContextId id, const SamplingParams& params) override {
    return first<TokenId>([&](Engine& e) { return e.sample(id, params); });
  }
  void sample(std::span<const SampleRow> rows, std::span<TokenId> tokens) override {
    std::vector<std::vector<TokenId>> sampled(engines_.size(), std::vector<TokenId>(rows.size()));
    all([&](int s) { engines_[s]->sample(rows, sampled[s]); });
    for (const auto& other : sampled)
      if (other != sampled[0])
        throw std::logic_error("the shards of a ring sampled different tokens");
    std::copy(sampled[0].begin(), sampled[0].end(), tokens.begin());
  }
  std::span<const float> logits(ContextId id) override {
    return first<std::span<const float>>([&](Engine& e) { return e.logits(id); });
  }
  bool hand_over() override {
    const auto each = of_each<char>([](Engine& e) { return e.hand_over(); });
    return std::count(each.begin(), each.end(), 0) == 0;
  }
  bool store_pages(bool on) override {
    return first<bool>([&](Engine& e) { return e.store_pages(on); });
  }
  bool imagine(ContextId id, const PolicyConfig& policy, int64_t tokens) override {
    return first<bool>([&](Engine& e) { return e.imagine(id, policy, tokens); });
  }

  // What shards hold and read is added up; what they do together is any one's.
  ContextStats stats(ContextId id) const override {
    const auto each = of_each<ContextStats>([&](Engine& e) { return e.stats(id); });
    ContextStats sum = each[0];
    for (size_t s = 1; s < each.size(); ++s) {
      sum.gpu_bytes += each[s].gpu_bytes;
      sum.host_bytes += each[s].host_bytes;
      sum.reads_store += each[s].reads_store;
    }
    sum.reads_ram = sum.units_selected - sum.reads_store;
    return sum;
  }
  EngineStats stats() const override {
    const auto each = of_each<EngineStats>([](Engine& e) { return e.stats(); });
    EngineStats sum = each[0];
    for (size_t s = 1; s < each.size(); ++s) {
      sum.ram_budget += each[s].ram_budget;
      sum.ram_used += each[s].ram_used;
      sum.gpu_budget += each[s].gpu_budget;
      sum.gpu_used += each[s].gpu_used;
      sum.unit_cache_bytes += each[s].unit_cache_bytes;
    }
    return sum;
  }
  std::vector<UnitUse> last_used(ContextId id) const override {
    return first<std::vector<UnitUse>>([&](Engine& e) { return e.last_used(id); });
  }
  int64_t units_awaited(ContextId id) const override {
    const auto each = of_each<int64_t>([&](Engine& e) { return e.units_awaited(id); });
    return std::accumulate(each.begin(), each.end(), int64_t{0});
  }

 private:
  static int64_t part_floats(const ModelConfig& c) {
    return GpuRingLink::part_floats({c.heads, c.kv_heads, c.head_dim});
  }
  // Where one shard breaks, the others are not left to wait for it.
  void all(const std::function<void(int)>& body) const {
    const auto thrown = threads_.run([&](int s) {
      try {
        body(s);
      } catch (const std::exception& e) {
        if (links_ && !is_agreed(e)) links_->at(s).abort(e.what());
        throw;
      }
    });
    // The cause, not what it led to.
    std::exception_ptr cause;
    for (const auto& one : thrown) {
      if (!one) continue;
      try {
        std::rethrow_exception(one);
      } catch (const kernels::ring::RingError&) {
        if (!cause) cause = one;
      } catch (...) {
        std::rethrow_exception(one);
      }
    }
    if (cause) std::rethrow_exception(cause);
  }
  template <class Result, class Call>
  std::vector<Result> of_each(const Call& call) const {
    std::vector<Result> results(engines_.size());
    all([&](int s) { results[s] = call(*engines_[s]); });
    return results;
  }
  template <class Result, class Call>
  Result first(const Call& call) const {
    Result result{};
    all([&](int s) {
      auto own = call(*engines_[s]);
      if (s == 0) result = std::move(own);
    });
    return result;
  }
  void release() {
    threads_.run([&](int s) {
      engines_[s].reset();
      if (s > 0) gpus_[s].reset();
    });
    threads_.run([&](int s) {
      if (s > 0) return;
      links_.reset();
      gpus_[0].reset();
    });
  }

  std::vector<std::shared_ptr<kernels::Gpu>> gpus_;
  std::shared_ptr<RingLinks> links_;
  std::vector<std::unique_ptr<Engine>> engines_;  // each for its shard's thread
  mutable ShardThreads threads_;
};

}  // namespace

std::unique_ptr<Engine> make_gpu_ring_engine(
    int shards, const std::function<std::shared_ptr<kernels::Gpu>(int shard)>& open,
    std::shared_ptr<const Model> model, const EngineOptions& options, const GpuRingOptions& ring,
    UnitStore& units) {
  return std::make_unique<GpuRingEngine>(shards, open, std::move(model), options, ring, units);
}

}  // namespace ringtide::model
