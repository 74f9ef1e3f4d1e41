// The engine: contexts (one per session in memory) and the passes that extend them.
//
// One thread drives an engine: the shard worker's. Tokens are the truth: a context can be thrown
// away at any time and re-entered from its tokens and the lengths of its execution blocks, bit for
// bit.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/policy_config.h"
#include "model/types.h"
#include "model/unit_store.h"

namespace ringtide::kernels {
class Gpu;       // kernels/gpu.h
struct GpuInfo;  // kernels/gpu.h
}

namespace ringtide::model {

class Model;        // model/model.h
struct CpuWeights;  // model/cpu_weights.h

using ContextId = uint64_t;

// What weights are multiplied by: float32, or, where they are quantised, integers that share a factor
// among 32 values, and where they are bfloat16, bfloat16. That is several times as fast.
// kernels/matmul.h tells the errors.
enum class ActivationType : uint8_t { F32, Int16, Int8 };

struct EngineOptions {
  int threads = 0;  // 0: one a core
  // Bytes of windows, units and index groups in memory, and what grows with a context; 0: half of
  // RAM.
  int64_t ram_budget = 0;
  int64_t ram_elsewhere = 0;  // of it, for what is outside of the engine: the way to the store
  bool half_kv = true;  // keys and values as float16, else float32
  ActivationType activations = ActivationType::Int16;
  // Of a ring of CPUs, the same on all its shards: bytes of weights that are read in about the time
  // of one exchange. Where an exchange spares more, few rows are computed each output on one shard.
  int64_t exchange_bytes = int64_t{1} << 20;
  // Of a ring of CPUs: shards that keep each unit in their stores, its owner among them. With two, a
  // ring that loses one shard makes none again.
  int unit_copies = 2;
  // Of the GPU's engine, whose ram_budget is for copies of units in host memory.
  int64_t gpu_memory = 0;      // bytes of the device, weights included; 0: 90 % of what is free
  int32_t pass_tokens = 2048;  // most tokens of one pass; blocks are not longer
};

struct SampleRow {
  ContextId context;
  SamplingParams params;
};

struct DecodeRow {
  ContextId context;
  TokenId token;
};

// What a context has done and holds. Counters only grow.
struct ContextStats {
  int64_t tokens = 0;  // processed
  int64_t units = 0;   // complete: in the store, or on the way
  int64_t window_bytes = 0;
  int64_t index_bytes = 0;       // what grows: summaries of index groups, tokens, keys
  int64_t host_bytes = 0;        // units on the host, beside what is on a GPU
  int64_t gpu_bytes = 0;         // window, index, retrieved units
  int64_t units_selected = 0;    // (layer, lookup, unit) triples that lookups returned
  int64_t reads_ram = 0;         // of them: found in memory
  int64_t reads_store = 0;       // of them: read back from the store
  int64_t units_recomputed = 0;  // lost or corrupt, of the window too, rebuilt from tokens
  int64_t groups_remade = 0;     // index groups that were lost or corrupt, made again from units
  int64_t tokens_rerun = 0;      // run again when it was restored
};

struct EngineStats {
  int64_t ram_budget = 0;
  int64_t ram_used = 0;  // bytes of KV in memory now, of all contexts
  int64_t gpu_budget = 0;  // bytes for KV on the GPU; 0: the engine has none
  int64_t gpu_used = 0;
  int64_t unit_cache_bytes = 0;
  int64_t contexts = 0;
};

struct UnitUse {  // one unit that the last pass attended to
  int64_t unit = 0;
  int64_t layers = 0;  // in how many layers
};

// Thrown where nothing is wrong but room: opening or restoring a context would pass the budget that
// other contexts share. A context that could not be had alone is a ModelError.
struct OutOfBudget : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // An empty context. Throws OutOfBudget; ModelError where the policy does not fit the model.
  virtual void open(ContextId id, const PolicyConfig& policy) = 0;
  // A context that is to have processed `tokens` in blocks of these lengths (they sum to
  // tokens.size()): taken up from stored units as far as they reach. The rest is run again by
  // replay(), at most the policy's block length a call, so that others can have their turns between;
  // until nothing is left, the context takes no other call but close(). Throws as open().
  virtual void restore(ContextId id, const PolicyConfig& policy, std::vector<TokenId> tokens,
                       std::vector<int32_t> block_lengths) = 0;
  struct Replay {
    int64_t done = 0, total = 0;  // tokens run again, of about so many
    bool finished = false;
  };
  virtual Replay replay(ContextId id) = 0;
  virtual void close(ContextId id) = 0;
  virtual bool has(ContextId id) const = 0;

  // A pass that throws closes the contexts it was to extend: restore them from their tokens.
  // Runs one execution block: it must not cross a multiple of the policy's block length.
  virtual void prefill(ContextId id, std::span<const TokenId> tokens) = 0;
  // Runs whole blocks of these lengths, which sum to tokens.size(), in as few passes as may be.
  virtual void prefill(ContextId id, std::span<const TokenId> tokens,
                       std::span<const int32_t> lengths) {
    for (const int32_t length : lengths) {
      prefill(id, tokens.first(length));
      tokens = tokens.subspan(length);
    }
  }
  // Runs one token of each of several contexts, each its own block of length 1.
  virtual void decode(std::span<const DecodeRow> rows) = 0;
  // The next token after what has been processed; does not process it. REQUIRES: tokens > 0.
  virtual TokenId sample(ContextId id, const SamplingParams& params) = 0;
  // The same for several contexts at once.
  virtual void sample(std::span<const SampleRow> rows, std::span<TokenId> tokens) {
    for (size_t i = 0; i < rows.size(); ++i) tokens[i] = sample(rows[i].context, rows[i].params);
  }
  // Logits after the last processed token, (vocabulary). Valid until the next call.
  virtual std::span<const float> logits(ContextId id) = 0;

  // Gives the store what earlier calls have left on its way there, as far as it has come; waits for
  // nothing. False: some is still on the way. Other calls do so too, as they go.
  virtual bool hand_over() { return true; }

  // For measurements: whether full pages leave for the store; at first they do. False: not by this
  // engine.
  virtual bool store_pages(bool /*on*/) { return false; }
  // For measurements: a context as after so many tokens, with random keys, values and
  // representatives; its units in host memory share a few buffers. False: not by this engine.
  virtual bool imagine(ContextId, const PolicyConfig&, int64_t /*tokens*/) { return false; }

  virtual ContextStats stats(ContextId id) const = 0;
  virtual EngineStats stats() const = 0;
  // Units of the last pass over this context, by number; empty under policies that select none.
  virtual std::vector<UnitUse> last_used(ContextId id) const = 0;

  // For measurements: of all units_selected, those that a GPU copied when they were chosen, and not
  // before.
  virtual int64_t units_awaited(ContextId) const { return 0; }
};

// The engine of this machine's processors. `units` must outlive it. `weights` are those of `model`,
// packed before and shared with other engines; null: packs its own.
std::unique_ptr<Engine> make_cpu_engine(std::shared_ptr<const Model> model,
                                        const EngineOptions& options, UnitStore& units,
                                        std::shared_ptr<const CpuWeights> weights = nullptr);

// The engine of an NVIDIA GPU. Throws ModelError where the model cannot run there (gpu_refusal()) or
// does not fit. A model without tensors gets random ones of its shape, for benchmarks.
std::unique_ptr<Engine> make_gpu_engine(std::shared_ptr<kernels::Gpu> gpu,
                                        std::shared_ptr<const Model> model,
                                        const EngineOptions& options, UnitStore& units);
// Why a model on this GPU, or a session's policy, cannot be served by it; empty: it can.
std::string gpu_refusal(const Model& model, const EngineOptions& options,
                        const kernels::GpuInfo& gpu);
std::string gpu_refusal(const PolicyConfig& policy, const EngineOptions& options);

}  // namespace ringtide::model
