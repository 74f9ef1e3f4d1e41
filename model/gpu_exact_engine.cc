// The engine of one GPU of a ring under `exact`: contexts, and which of their tokens run in which
// pass. Nothing is kept in a store: a sequence that is restored runs again from its tokens.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "model/blocks.h"
#include "model/gpu_ring_passes.h"
#include "model/gpu_shared.h"

namespace ringtide::model {
namespace {

constexpr int32_t kPage = GpuRingMemory::kPage;

class GpuExactEngine final : public Engine {
 public:
  GpuExactEngine(const GpuShared& shared, int64_t blocks, const GpuRingOptions& options)
      : gpu_(shared.gpu),
        model_(shared.model),
        weights_(shared.weights),
        options_(shared.options),
        ring_(*shared.ring),
        blocks_(blocks),
        angles_(*gpu_, model_->config.rope_inv_freq, pass_rows()),
        memory_(*gpu_, model_->config, ring_.shards(), blocks),
        passes_(*gpu_, *model_, *weights_, memory_, angles_, ring_, options, pass_rows()) {}

  void open(ContextId id, const PolicyConfig& config) override {
    close(id);
    contexts_[id] = make_context(config);
  }

  void restore(ContextId id, const PolicyConfig& config, std::vector<TokenId> tokens,
               std::vector<int32_t> block_lengths) override {
    close(id);
    History history = History::of(config, fingerprint(), tokens, block_lengths);
    returns_.insert_or_assign(id, Back{std::move(history), make_context(config), 0});
  }

  Replay replay(ContextId id) override {
    const auto found = returns_.find(id);
    if (found == returns_.end()) return {.finished = true};
    Back& back = found->second;
    try {
      if (back.context->processed() < back.history.tokens()) {
        const auto block = back.history.block(back.blocks++);
        const auto length = static_cast<int32_t>(block.size());
        run_blocks(*back.context, block, {&length, 1});
      }
    } catch (...) {
      close(id);
      throw;
    }
    const int64_t done = back.context->processed(), total = back.history.tokens();
    if (done == total) {
      contexts_[id] = std::move(back.context);
      returns_.erase(found);
    }
    return {done, total, done == total};
  }

  void close(ContextId id) override {
    if (const auto found = contexts_.find(id); found != contexts_.end())
      passes_.forget(*found->second);
    contexts_.erase(id);
    returns_.erase(id);
  }
  bool has(ContextId id) const override { return contexts_.contains(id) || returns_.contains(id); }

  void prefill(ContextId id, std::span<const TokenId> tokens) override {
    const auto length = static_cast<int32_t>(tokens.size());
    prefill(id, tokens, {&length, 1});
  }
  void prefill(ContextId id, std::span<const TokenId> tokens,
               std::span<const int32_t> lengths) override {
    GpuRingContext& context = get(id);
    const int64_t block = context.history().policy().block;
    require_whole_blocks(context.processed(), block, static_cast<int64_t>(tokens.size()), lengths);
    try {
      run_blocks(context, tokens, lengths);
    } catch (...) {
      close(id);
      throw;
    }
  }

  void decode(std::span<const DecodeRow> rows) override {
    for (const DecodeRow& row : rows) get(row.context);
    try {
      constexpr size_t kMost = kernels::cuda::kFewRows;
      for (size_t at = 0; at < rows.size(); at += kMost) {
        std::vector<GpuRingPasses::Row> now;
        for (const DecodeRow& row : rows.subspan(at, std::min(kMost, rows.size() - at)))
          now.push_back({&get(row.context), row.token});
        decode_rows(now);
      }
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
    std::vector<GpuRingContext*> contexts;
    std::vector<SamplingParams> params;
    for (const SampleRow& row : rows) {
      contexts.push_back(&started(row.context));
      params.push_back(row.params);
    }
    passes_.sample(contexts, params, tokens);
  }

  std::span<const float> logits(ContextId id) override {
    GpuRingContext& context = started(id);
    logits_.resize(model_->config.vocabulary);
    float* const logits = passes_.logits(context);
    passes_.finish();
    gpu_->copy(logits_.data(), logits, static_cast<int64_t>(logits_.size() * sizeof(float)));
    gpu_->synchronize();
    return logits_;
  }

  bool imagine(ContextId id, const PolicyConfig& config, int64_t tokens) override {
    open(id, config);
    GpuRingContext& context = get(id);
    const std::vector<TokenId> zeros(config.block);
    for (int64_t at = 0; at + config.block <= tokens; at += config.block) {
      context.grow(config.block);
      context.finish(zeros);
    }
    uint64_t seed = id << 32;
    const std::vector<int64_t>& blocks = context.blocks();
    for (size_t i = 0, end; i < blocks.size(); i = end) {
      for (end = i + 1; end < blocks.size() && blocks[end] == blocks[end - 1] + 1;) ++end;
      for (int l = 0; l < model_->config.layers; ++l)
        gpu_->fill_normal(reinterpret_cast<kernels::cuda::bf16*>(memory_.at(
                              int64_t{l} * memory_.layer_rows() + memory_.row(blocks[i]))),
                          static_cast<int64_t>(end - i) * memory_.block_bytes() / 2, 1.0f, ++seed);
    }
    gpu_->fill(context.hidden(), 0, int64_t{model_->config.hidden} * 4);
    gpu_->synchronize();
    return true;
  }

  ContextStats stats(ContextId id) const override {
    const GpuRingContext& context = *contexts_.at(id);
    return {.tokens = context.processed(),
            .index_bytes = context.history().bytes(),
            .gpu_bytes = static_cast<int64_t>(context.blocks().size()) * layers_bytes()};
  }
  EngineStats stats() const override {
    return {.gpu_budget = blocks_ * layers_bytes(),
            .gpu_used = memory_.used(ring_.shard()) * layers_bytes(),
            .contexts = static_cast<int64_t>(contexts_.size())};
  }
  std::vector<UnitUse> last_used(ContextId) const override { return {}; }

 private:
  struct Back {
    History history;
    std::unique_ptr<GpuRingContext> context;
    size_t blocks;  // of the history that have run
  };

  int32_t pass_rows() const {
    return GpuRingPasses::rows_of_pass(options_.pass_tokens, ring_.shards());
  }
  std::string fingerprint() const {
    return model_->fingerprint + "/bf16-gpu-ring/" + std::to_string(ring_.shards());
  }
  int64_t layers_bytes() const { return model_->config.layers * memory_.block_bytes(); }

  std::unique_ptr<GpuRingContext> make_context(const PolicyConfig& config) {
    return std::make_unique<GpuRingContext>(History(config, fingerprint()), *gpu_, memory_, angles_,
                                            ring_.shard(), ring_.shards(), model_->config.hidden);
  }
  GpuRingContext& get(ContextId id) {
    const auto found = contexts_.find(id);
    if (found == contexts_.end())
      throw std::logic_error("context " + std::to_string(id) + " is not open");
    return *found->second;
  }
  GpuRingContext& started(ContextId id) {
    GpuRingContext& context = get(id);
    if (context.processed() == 0) throw std::logic_error("logits: nothing has been processed");
    return context;
  }

  void decode_rows(std::span<const GpuRingPasses::Row> rows) {
    for (const auto& row : rows) row.context->grow(1);
    passes_.decode(rows);
    for (const auto& row : rows) row.context->finish({&row.token, 1});
  }

  // How a block runs follows from where it begins and how long it is: its tokens up to a page's
  // beginning together, and so the others if they are few; else split.
  static int64_t to_page(int64_t position, int64_t length) {
    return std::min(length, (kPage - position % kPage) % kPage);
  }
  static bool splits(int64_t position, int64_t length) {
    return length - to_page(position, length) > GpuRingPasses::kTogether;
  }

  void run_blocks(GpuRingContext& context, std::span<const TokenId> tokens,
                  std::span<const int32_t> lengths) {
    while (!lengths.empty()) {
      // Blocks that are split and begin with a page share a pass.
      const int64_t first = context.processed();
      int64_t n = lengths[0];
      size_t blocks = 1;
      const auto joins = [&](int64_t at, int64_t length) {
        return at % kPage == 0 && splits(at, length);
      };
      if (joins(first, n)) {
        while (blocks < lengths.size() && joins(first + n, lengths[blocks]) &&
               n + lengths[blocks] <= options_.pass_tokens)
          n += lengths[blocks++];
      }
      run_pass(context, first, tokens.first(n), lengths.first(blocks));
      tokens = tokens.subspan(n);
      lengths = lengths.subspan(blocks);
    }
  }

  void run_pass(GpuRingContext& context, int64_t first, std::span<const TokenId> tokens,
                std::span<const int32_t> lengths) {
    const auto n = static_cast<int64_t>(tokens.size());
    if (n == 1) {
      const GpuRingPasses::Row row{&context, tokens[0]};
      return decode_rows({&row, 1});
    }
    for (const int32_t length : lengths) context.grow(length);
    const int64_t head = to_page(first, n), most = GpuRingPasses::kTogether;
    if (n <= most) {
      passes_.together(context, first, tokens);
    } else {
      if (head > 0) passes_.together(context, first, tokens.first(head));
      if (n - head > most)
        passes_.split(context, first + head, tokens.subspan(head));
      else if (n > head)
        passes_.together(context, first + head, tokens.subspan(head));
    }
    for (const int32_t length : lengths) {
      context.finish(tokens.first(length));
      tokens = tokens.subspan(length);
    }
  }

  // Constant after construction.
  const std::shared_ptr<kernels::Gpu> gpu_;
  const std::shared_ptr<const Model> model_;
  const std::shared_ptr<const GpuWeights> weights_;
  const EngineOptions options_;
  GpuRingLink& ring_;
  const int64_t blocks_;  // of memory, on every shard
  // The engine's thread.
  GpuAngles angles_;
  GpuRingMemory memory_;
  GpuRingPasses passes_;
  std::unordered_map<ContextId, std::unique_ptr<GpuRingContext>> contexts_;
  std::unordered_map<ContextId, Back> returns_;  // on their way back
  std::vector<float> logits_;
};

}  // namespace

std::unique_ptr<Engine> make_gpu_exact_engine(const GpuShared& shared, int64_t blocks,
                                              const GpuRingOptions& options) {
  return std::make_unique<GpuExactEngine>(shared, blocks, options);
}

}  // namespace ringtide::model
