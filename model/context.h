// The state of one sequence in memory: window pages, sinks, index, and what it has processed.
//
// A pass over a block is begin(), then for each layer put() and the attention of
// context_attention.h, then finish(), which seals the units whose tokens have left the window.
// The engine's thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/threads.h"
#include "model/engine.h"
#include "model/history.h"
#include "model/model.h"
#include "model/page.h"
#include "model/policy.h"
#include "model/resumable.h"
#include "model/unit_cache.h"
#include "model/unit_index.h"
#include "model/unit_store.h"

namespace ringtide::model {

class Context final : public Resumable {
 public:
  Context(ContextId id, std::shared_ptr<const MemoryPolicy> policy, const PageLayout& layout,
          const ModelConfig& config, const std::string& fingerprint);

  // -- a pass over one block ----
  void begin(std::span<const TokenId> tokens);
  // Keys (m, kv_heads, head_dim) before RoPE and values of the block, into the layer's pages.
  void put(int layer, const float* k, const float* v);
  // The block becomes part of the past. `hidden` is its last row, (hidden,).
  void finish(const float* hidden, int32_t hidden_size, UnitStore& store, UnitCache& cache,
              kernels::ThreadPool& threads);

  // -- what attention reads ----
  const MemoryPolicy& policy() const { return *policy_; }
  const PageLayout& layout() const { return layout_; }
  const ModelConfig& config() const { return config_; }
  const History& history() const { return history_; }
  const UnitIndex& index() const { return index_; }
  int64_t processed() const override { return history_.tokens(); }
  int64_t sealed() const { return static_cast<int64_t>(history_.keys().size()); }
  int64_t block_tokens() const { return static_cast<int64_t>(block_.size()); }
  // Page of unit `number`, which is not sealed; or page 0, which stays for its sinks. Null
  // otherwise.
  Page* page(int64_t number);
  int64_t pages_end() const { return base_ + static_cast<int64_t>(pages_.size()); }
  // Rotations of the block's queries, (block_tokens, head_dim / 2): at their positions, at their
  // place towards the far part, and (one row) where a lookup's query stands.
  struct Rotation {
    std::vector<float> cos, sin;
  };
  const Rotation& near() const { return near_; }
  const Rotation& sliding() const { return layout_.sliding_rope ? sliding_ : near_; }
  const Rotation& far() const { return far_; }
  const Rotation& lookup() const { return lookup_; }
  // First unit in reach of the block's queries in layers that slide a window.
  int64_t sliding_begin() const;
  // Frequencies of the keys' rotation in layers that slide or do not.
  std::span<const double> inv_freq(bool sliding) const {
    return sliding && layout_.sliding_rope ? config_.sliding_inv_freq : config_.rope_inv_freq;
  }

  // -- restoring ----
  std::vector<int64_t> absent(const History& history, int64_t tokens,
                              UnitStore& store) const override;
  std::vector<int64_t> take_up(const History& history, const TakeUp& at,
                               UnitStore& store) override;

  ContextId id() const { return id_; }
  std::vector<float> hidden;    // last row after the last layer, before the final norm
  std::vector<float> logits;    // empty until asked for
  std::vector<int64_t> picked;  // units attended to in the last pass, once a layer
  ContextStats counters;        // the counting fields only
  ContextStats stats() const;
  // Bytes that grow with the sequence: tokens and keys, summaries of the index.
  int64_t held_bytes() const;

 private:
  std::shared_ptr<Page> new_page(int64_t number) const;
  void seal(UnitStore& store, UnitCache& cache, kernels::ThreadPool& threads);
  void seal_group(std::shared_ptr<const IndexGroup> group, UnitStore& store, UnitCache& cache);
  void represent(Page& page, int64_t unit, kernels::ThreadPool& threads);
  bool reads_units(int layer) const;

  ContextId id_;
  std::shared_ptr<const MemoryPolicy> policy_;
  PageLayout layout_;
  const ModelConfig& config_;  // outlives the context
  History history_;
  UnitIndex index_;
  int64_t base_ = 0;  // unit of the first page: the first that is not sealed
  std::deque<std::shared_ptr<Page>> pages_;
  std::shared_ptr<Page> first_;  // page 0, once sealed
  std::vector<TokenId> block_;
  Rotation near_, sliding_, far_, lookup_, limit_;
};

}  // namespace ringtide::model
