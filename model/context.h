// The state of one sequence in memory: window pages, sinks, index, and what it has processed.
//
// A pass over a block is begin(), then for each layer put() and the attention of
// context_attention.h, then finish(), which stores the pages that are full now, and seals the units
// whose tokens have left the window. Blocks that follow each other may share a pass, where none but
// the last seals a unit: then each finds what it would find in a pass of its own.
//
// On a ring every shard has the context, its history and its whole index; keys and values of a page
// are on the shards that page_owners.h names. The engine's thread only.
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
#include "model/page_owners.h"
#include "model/policy.h"
#include "model/resumable.h"
#include "model/shard_ring.h"
#include "model/shard_units.h"
#include "model/unit_cache.h"
#include "model/unit_index.h"
#include "model/unit_store.h"

namespace ringtide::model {

class Context final : public Resumable {
 public:
  // Null `ring`: all pages are here.
  Context(ContextId id, std::shared_ptr<const MemoryPolicy> policy, const PageLayout& layout,
          const ModelConfig& config, const std::string& fingerprint, ShardRing* ring = nullptr);

  // -- a pass over a block, or several ----
  // One block more, behind those that are begun.
  void begin(std::span<const TokenId> tokens);
  // Keys (count, kv_heads, head_dim) before RoPE and values of tokens of the pass, from `position`
  // on, into the layer's pages that are here.
  void put(int layer, int64_t position, int64_t count, const float* k, const float* v);
  // The blocks become part of the past. `hidden` is their last row, (hidden,).
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
  int64_t begun() const { return processed() + static_cast<int64_t>(pass_.size()); }
  // Page of unit `number`, which is not sealed; or page 0, which stays for its sinks. Null
  // otherwise.
  Page* page(int64_t number);
  // Whether this shard attends with the keys and values of this page, or unit.
  bool has_kv(int64_t number) const { return owners_.here(number); }
  int owner(int64_t number) const { return owners_.of(number); }  // REQUIRES: a ring
  int64_t pages_end() const { return base_ + static_cast<int64_t>(pages_.size()); }
  // Rotations of the pass's queries, (begun() - processed(), head_dim / 2): at their positions, at
  // their place towards the far part, and (one row) where a lookup's query stands.
  struct Rotation {
    std::vector<float> cos, sin;
  };
  const Rotation& near() const { return near_; }
  const Rotation& sliding() const { return layout_.sliding_rope ? sliding_ : near_; }
  const Rotation& far() const { return far_; }
  const Rotation& lookup() const { return lookup_; }
  // First unit in reach of queries from `position` on in layers that slide a window.
  int64_t sliding_begin(int64_t position) const;
  // Frequencies of the keys' rotation in layers that slide or do not.
  std::span<const double> inv_freq(bool sliding) const {
    return sliding && layout_.sliding_rope ? config_.sliding_inv_freq : config_.rope_inv_freq;
  }

  // -- restoring ----
  const std::vector<UnitKey>& stored_pages(const History& history) const override {
    return history.page_keys();
  }
  std::vector<int64_t> absent(const History& history, int64_t tokens,
                              UnitStore& store) const override;
  std::vector<int64_t> take_up(const History& history, const TakeUp& at, UnitStore& store) override;
  // Those of `units` whose pages are on no shard; the others are where they belong from now on.
  std::vector<int64_t> bring(std::span<const int64_t> units, ShardUnits& store) const;

  ContextId id() const { return id_; }
  std::vector<float> hidden;    // last row after the last layer, before the final norm
  std::vector<float> logits;    // empty until asked for
  std::vector<int64_t> picked;  // units attended to in the last block, once a layer
  ContextStats counters;        // the counting fields only
  ContextStats stats() const;
  // Bytes that grow with the sequence: tokens and keys, summaries of the index.
  int64_t held_bytes() const;

 private:
  std::shared_ptr<Page> new_page(int64_t number, const PageOwners& owners) const;
  // A full page that no query has seen yet that stands a window behind it.
  void store_page(int64_t number, const std::shared_ptr<Page>& page, UnitStore& store) const;
  void seal(UnitStore& store, UnitCache& cache);
  void seal_group(std::shared_ptr<const IndexGroup> group, UnitStore& store, UnitCache& cache);
  // Representatives of the first `count` pages, which are to be sealed, become final.
  void represent(int64_t count, kernels::ThreadPool& threads);
  void represent(int64_t at, Page& page, kernels::ThreadPool& threads);
  void share_representatives(int64_t count);
  bool reads_units(int layer) const;

  ContextId id_;
  std::shared_ptr<const MemoryPolicy> policy_;
  PageLayout layout_;
  const ModelConfig& config_;  // outlives the context
  History history_;
  UnitIndex index_;
  ShardRing* ring_;
  PageOwners owners_;
  int64_t base_ = 0;  // unit of the first page: the first that is not sealed
  std::deque<std::shared_ptr<Page>> pages_;
  std::shared_ptr<Page> first_;  // page 0, once sealed
  std::vector<TokenId> pass_;    // tokens of the blocks that are begun
  std::vector<size_t> lengths_;  // of these blocks
  Rotation near_, sliding_, far_, lookup_, limit_;
};

}  // namespace ringtide::model
