// The state of one sequence on the device: pages of the window, slots for retrieved units, index.
//
// A pass over one or more blocks is begin(), then, layer by layer and block by block, the work that
// near(), far(), learn_runs() and memory() describe (gpu_passes.h), then finish(). What a block can see
// is what the CPU engine's context_attention.h says, with one difference that changes no definition:
// under `exact`, units stay on the device and count as near.
//
// The engine's thread only.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/engine.h"
#include "model/gpu_angles.h"
#include "model/gpu_arena.h"
#include "model/gpu_index.h"
#include "model/gpu_pages.h"
#include "model/gpu_spill.h"
#include "model/history.h"
#include "model/host_units.h"
#include "model/policy.h"
#include "model/resumable.h"

namespace ringtide::model {

class GpuContext;

// What all contexts of an engine share.
struct GpuHome {
  kernels::Gpu& gpu;
  GpuArena& arena;
  GpuAngles& angles;
  GpuSpill& spill;
  HostUnits& host;
  std::vector<GpuContext*> living;               // all of them
  std::function<void(const GpuContext&)> gone;  // told of one that goes away
  int64_t tick = 0;  // of lookups, in the order in which they use slots
  bool stores_pages = true;
};

class GpuContext final : public Resumable, public GpuSpill::Owner {
 public:
  // Throws OutOfBudget.
  GpuContext(ContextId id, std::shared_ptr<const MemoryPolicy> policy, const GpuLayout& layout,
             GpuHome& home, GpuPages& pages, int32_t hidden, const std::string& fingerprint);
  ~GpuContext() override;

  // Pages that it may hold between passes.
  static int64_t window_pages(const PolicyConfig& policy);
  // Bytes of the device that one takes when it is opened.
  static int64_t reserved_bytes(const MemoryPolicy& policy, const GpuLayout& layout);

  // -- a pass ----
  // Makes room for tokens and the units that they will seal. Throws OutOfBudget.
  void begin(int64_t tokens);
  struct Place {
    int32_t raw_row, rotated_row, v_row;
  };
  Place place(int64_t position) const;
  // Of a block [begin, end) of the sequence. Rows are those of layer 0.
  void near(int64_t begin, int64_t end, std::vector<kernels::cuda::KvRef>& refs) const;
  void far(int64_t begin, int64_t end, std::vector<kernels::cuda::KvRef>& refs) const;
  // `row`: of the block's first query among the pass's.
  void learn_runs(int64_t begin, int64_t end, int32_t row,
                  std::vector<kernels::cuda::LearnRun>& runs) const;
  bool looks_up() const { return policy_->represents(); }
  bool retrieves() const { return slot_count_ > 0; }
  kernels::cuda::Memory memory(int64_t sealed) const;
  kernels::cuda::Slots slots(int layer) const;
  int64_t sealed_at(int64_t processed) const { return history_.sealed_at(processed); }
  // A unit that is sealed needs representatives: what they are made of, but for the layers and
  // `query_sums`, whose whole_pages() device pointers are written to `sums`.
  int32_t whole_pages() const { return policy_->config().window / layout_.unit - 1; }
  kernels::cuda::Represent represent(int64_t unit, const float** sums) const;

  // The pass's blocks become part of the past; pages that they fill leave for the store, and what
  // finds the units that they seal.
  void finish(std::span<const TokenId> tokens, std::span<const int32_t> lengths);

  // -- positions ----
  kernels::cuda::Band near_band() const;
  kernels::cuda::Band far_band() const;
  // Where queries stop moving away from the far part.
  int64_t query_limit() const { return policy_->position().query_limit; }
  bool true_distance() const { return policy_->position().true_distance; }
  GpuAngles::Own& angles() { return angles_; }

  // -- units ----
  GpuIndex& index() { return index_; }
  // The host forgets a unit: it is only in the store.
  void forgotten(const UnitKey& key);
  // A sealed unit is in host memory.
  void has_in_host(int64_t unit, const std::byte* payload);

  // -- restoring ----
  int64_t processed() const override { return history_.tokens(); }
  const std::vector<UnitKey>& stored_pages(const History& history) const override {
    return history.page_keys();
  }
  std::vector<int64_t> absent(const History& history, int64_t tokens,
                              UnitStore& store) const override;
  std::vector<int64_t> take_up(const History& history, const TakeUp& at, UnitStore& store) override;

  // Fills an empty context with a past that never was, of whole blocks: Engine::imagine().
  void imagine(int64_t tokens);

  // -- GpuSpill::Owner ----
  uint64_t owner_id() const override { return id_; }
  void left(const GpuSpill::Value& value) override;

  ContextId id() const { return id_; }
  const MemoryPolicy& policy() const { return *policy_; }
  const GpuLayout& layout() const { return layout_; }
  const History& history() const { return history_; }
  int64_t sealed() const { return static_cast<int64_t>(history_.keys().size()); }
  float* hidden() const { return hidden_.as<float>(); }  // residual row of the last token
  ContextStats stats() const;

  std::vector<int64_t> picked;  // units attended to in the last pass, once a layer
  ContextStats counters;        // the counting fields only
  int64_t units_awaited = 0;
  // Staged reads of units that only the store has, since they were last in host memory.
  std::unordered_map<int64_t, int32_t> staged;

 private:
  struct InHost {
    int64_t unit;
    const std::byte* payload;
  };
  bool keeps_units() const { return policy_->config().kind == PolicyKind::Exact; }
  const GpuPage& live(int64_t unit) const { return *pages_.at(unit - base_); }
  GpuPage* page(int64_t unit) const;  // not sealed, or page 0; null otherwise
  kernels::cuda::KvRef ref(int64_t unit, bool rotated, int32_t begin, int32_t end) const;
  GpuPage* take_page();
  void store_page(int64_t number);
  void seal();
  void keep(int64_t unit, const GpuPage* page);
  void keep_in_host(int64_t unit, HostUnits::Buffer payload);
  void load(GpuPage* page, int64_t unit, const std::byte* payload);
  void rotate(GpuPage* page, int64_t unit);
  // Of the sums that are stored with a page, or of representatives.
  HostUnits::Buffer take_sums() const {
    return home_.host.take(layout_.query_bytes() + layout_.logit_bytes());
  }

  const ContextId id_;
  const std::shared_ptr<const MemoryPolicy> policy_;
  const GpuLayout layout_;
  GpuHome& home_;
  GpuPages& pool_;
  GpuAngles::Own angles_;
  History history_;
  int64_t base_ = 0;              // unit of the first page: the first that is not sealed
  std::deque<GpuPage*> pages_;
  GpuPage* first_ = nullptr;      // page 0, once sealed, for its sinks
  std::vector<GpuArena::Span> kept_;  // rotated keys and values of sealed units, under `exact`
  GpuIndex index_;
  int32_t slot_count_ = 0;        // of each layer
  GpuArena::Span slots_;          // keys and values, (layers, slots)
  GpuArena::Span slot_state_;     // as in Slots, of all layers
  GpuArena::Span hidden_;
  std::unordered_map<UnitKey, InHost, UnitKeyHash> in_host_;  // sealed or not
  std::vector<HostUnits::Buffer> imagined_;
};

}  // namespace ringtide::model
