// Lookups of a pass: the memory they work in, what they chose, and units that are only in the store.
//
// Where every unit of a context can be read by the device, a lookup is two kernels and nobody waits.
// Where some cannot, the host looks at each choice before it is placed and reads what is missing.
#pragma once

#include <memory>
#include <stdexcept>
#include <vector>

#include "kernels/gpu.h"
#include "model/gpu_buffer.h"
#include "model/gpu_context.h"

namespace ringtide::model {

// Units that a lookup chose are neither in memory nor in the store.
struct LostUnits : std::runtime_error {
  explicit LostUnits(std::vector<int64_t> units)  // at least one
      : std::runtime_error("unit " + std::to_string(units.front()) + " is lost"),
        units(std::move(units)) {}
  std::vector<int64_t> units;
};

class GpuLookup {
 public:
  GpuLookup(kernels::Gpu& gpu, GpuHome& home, UnitStore& store);
  ~GpuLookup();
  GpuLookup(const GpuLookup&) = delete;

  // Room for `sets` lookups of a layer in each layer (a set is a step, or a block of a pass), each of
  // so many rows. Returns whether everything stayed where it was.
  bool begin(const GpuLayout& layout, int32_t sets, int32_t rows, int32_t sealed, int32_t select);
  // The lookup of one set and layer, without queries, memory, slots and tick.
  kernels::cuda::Lookup make(int32_t set, int layer) const;
  kernels::cuda::KvList list(int32_t row) const;
  // In front of the first lookup of a pass.
  void count_anew();
  // The three parts of a lookup. `careful`: the context of the only row, where some of its units are
  // only in the store.
  void choose(const kernels::cuda::Lookup& lookup, GpuContext* careful);
  void assign(const kernels::cuda::Lookup& lookup);
  void fetch(const kernels::cuda::Lookup& lookup, GpuContext* careful);

  // Row `row` of set `set` is this context's, which is to be told what was chosen for it.
  void owe(GpuContext& context, int32_t set, int32_t row);
  bool owes() const { return !owed_.empty(); }
  // What is owed goes to the host; then, once the compute queue has been waited for, to the contexts.
  // REQUIRES: between owe() and fetch(), and between that and tell(), begin() is not called.
  void fetch();
  void tell();
  void forget(const GpuContext& context) noexcept;  // it goes away

 private:
  static constexpr int64_t kTotalBytes =
      kernels::cuda::kFewRows * static_cast<int64_t>(sizeof(kernels::cuda::LookupCounts));
  struct Owed {
    GpuContext* context;  // null: gone
    int32_t set, row;
  };
  int64_t choices() const { return int64_t{sets_} * rows_ * select_; }  // of a layer
  void tell(const Owed& owed);
  void provide(GpuContext& context, const kernels::cuda::Lookup& lookup);
  bool bring(GpuContext& context, int64_t unit);
  void want(const GpuContext& context, int64_t unit);
  bool need_host(int32_t*& memory, int64_t& have, int64_t n);

  kernels::Gpu& gpu_;
  GpuHome& home_;
  UnitStore& store_;
  GpuLayout layout_;
  int32_t sets_ = 0, rows_ = 0, sealed_ = 0, select_ = 0;
  GpuBuffer chosen_;   // (layers, sets, rows, select)
  GpuBuffer refs_, missing_, counts_, scratch_;  // of one lookup
  const GpuBuffer totals_;  // LookupCounts (rows), of all lookups of a pass
  kernels::cuda::LookupCounts* const host_totals_;
  int32_t* host_chosen_ = nullptr;  // as chosen_
  int32_t* peek_ = nullptr;  // what one lookup chose, and what its slots hold
  std::byte* stage_ = nullptr;
  int64_t host_chosen_n_ = 0, peek_n_ = 0, stage_bytes_ = 0;
  std::vector<Owed> owed_;
  std::vector<int64_t> staged_;
};

}  // namespace ringtide::model
