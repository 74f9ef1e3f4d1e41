#include "model/gpu_lookup.h"

#include <algorithm>
#include <span>

namespace ringtide::model {

using kernels::cuda::KvRef;
using kernels::cuda::LookupCounts;

GpuLookup::GpuLookup(kernels::Gpu& gpu, GpuHome& home, UnitStore& store)
    : gpu_(gpu),
      home_(home),
      store_(store),
      chosen_(gpu),
      refs_(gpu),
      missing_(gpu),
      counts_(gpu),
      scratch_(gpu),
      totals_(gpu, kTotalBytes),
      host_totals_(static_cast<LookupCounts*>(gpu.allocate_host(kTotalBytes))) {}

GpuLookup::~GpuLookup() {
  gpu_.release_host(host_totals_);
  gpu_.release_host(host_chosen_);
  gpu_.release_host(peek_);
  gpu_.release_host(stage_);
}

bool GpuLookup::begin(const GpuLayout& layout, int32_t sets, int32_t rows, int32_t sealed,
                      int32_t select) {
  layout_ = layout;
  sets_ = sets;
  rows_ = rows;
  sealed_ = sealed;
  select_ = select;
  const int64_t n = int64_t{rows} * select;
  bool stayed = chosen_.need(layout.layers * choices() * 4);
  stayed &= refs_.need(n * static_cast<int64_t>(sizeof(KvRef)));
  stayed &= missing_.need(n * 4);
  stayed &= counts_.need(rows * 4);
  stayed &= scratch_.need(gpu_.lookup_scratch(layout.shape, rows, sealed, select) * 4);
  need_host(host_chosen_, host_chosen_n_, layout.layers * choices());
  return stayed;
}

bool GpuLookup::need_host(int32_t*& memory, int64_t& have, int64_t n) {
  if (n <= have) return true;
  gpu_.synchronize();
  gpu_.release_host(memory);
  memory = static_cast<int32_t*>(gpu_.allocate_host(n * 4));
  have = n;
  return false;
}

kernels::cuda::Lookup GpuLookup::make(int32_t set, int layer) const {
  kernels::cuda::Lookup a;
  a.shape = layout_.shape;
  a.unit = layout_.unit;
  a.layers = layout_.layers;
  a.layer = layer;
  a.rows = rows_;
  a.max_sealed = sealed_;
  a.max_select = select_;
  a.scratch = scratch_.full();
  a.chosen = chosen_.as<int32_t>() + (int64_t{layer} * sets_ + set) * rows_ * select_;
  a.refs = refs_.as<KvRef>();
  a.counts = counts_.as<int32_t>();
  a.missing = missing_.as<int32_t>();
  a.totals = totals_.as<LookupCounts>();
  a.arena = home_.arena.view();
  return a;
}

kernels::cuda::KvList GpuLookup::list(int32_t row) const {
  return {refs_.as<KvRef>() + int64_t{row} * select_, counts_.as<int32_t>() + row, select_, 0};
}

void GpuLookup::count_anew() { gpu_.fill(totals_.as<void>(), 0, kTotalBytes); }

void GpuLookup::choose(const kernels::cuda::Lookup& lookup, GpuContext* careful) {
  gpu_.choose_units(lookup);
  if (careful) provide(*careful, lookup);
}

void GpuLookup::assign(const kernels::cuda::Lookup& lookup) { gpu_.assign_slots(lookup); }

void GpuLookup::fetch(const kernels::cuda::Lookup& lookup, GpuContext* careful) {
  gpu_.fetch_units(lookup);
  if (staged_.empty()) return;
  for (int64_t unit : staged_) careful->index().set_payload(unit, nullptr);
  careful->index().send();
  staged_.clear();
}

// The chosen units that the device cannot read: brought to host memory to stay, or, where that is
// full, only this layer's part of them, to pass through.
void GpuLookup::provide(GpuContext& context, const kernels::cuda::Lookup& lookup) {
  const kernels::cuda::Slots slots = context.slots(lookup.layer);
  need_host(peek_, peek_n_, select_ + slots.slots);
  gpu_.copy(peek_, lookup.chosen, select_ * 4);
  gpu_.copy(peek_ + select_, slots.unit, slots.slots * 4);
  gpu_.synchronize();
  const std::span<const int32_t> held(peek_ + select_, slots.slots);
  std::vector<int64_t> wanted;
  for (const int32_t unit : std::span<const int32_t>(peek_, select_)) {
    if (unit < 0) break;
    want(context, unit);
    if (std::find(held.begin(), held.end(), unit) == held.end()) wanted.push_back(unit);
  }
  for (int64_t unit : wanted)
    if (!context.index().payload(unit) && bring(context, unit)) ++context.counters.reads_store;

  const int64_t chunk = layout_.chunk_bytes();
  if (stage_bytes_ < select_ * chunk) {
    gpu_.release_host(stage_);
    stage_bytes_ = select_ * chunk;
    stage_ = static_cast<std::byte*>(gpu_.allocate_host(stage_bytes_));
  }
  std::vector<PartRead> reads;
  for (int64_t unit : wanted) {
    if (context.index().payload(unit)) continue;
    reads.push_back(
        {context.history().page_keys()[unit],
         static_cast<uint32_t>(lookup.layer),
         {stage_ + static_cast<int64_t>(reads.size()) * chunk, static_cast<size_t>(chunk)}});
    staged_.push_back(unit);
    ++context.staged[unit];
    ++context.counters.reads_store;
  }
  store_.read(reads);
  std::vector<int64_t> lost;
  for (size_t i = 0; i < reads.size(); ++i)
    if (reads[i].outcome != ReadOutcome::Ok) lost.push_back(staged_[i]);
  if (!lost.empty()) {
    staged_.clear();
    throw LostUnits(std::move(lost));
  }
  // As if all layers were there: only this one's is read.
  for (size_t i = 0; i < reads.size(); ++i)
    context.index().set_payload(staged_[i], reads[i].into.data() - lookup.layer * chunk);
  context.index().send();
}

void GpuLookup::want(const GpuContext& context, int64_t unit) {
  const std::vector<UnitKey>& keys = context.history().page_keys();
  if (unit < static_cast<int64_t>(keys.size())) home_.host.want(keys[unit]);
}

// True where the whole unit is in host memory now.
bool GpuLookup::bring(GpuContext& context, int64_t unit) {
  const UnitKey key = context.history().page_keys()[unit];
  if (const auto here = home_.host.find(key)) {
    context.has_in_host(unit, here.get());
    return true;
  }
  // One that has been read in pieces as often as it has pieces is worth its room.
  const int64_t bytes = layout_.payload_bytes();
  const bool worth = context.staged[unit] >= layout_.layers && bytes <= home_.host.budget();
  if (!worth && !home_.host.has_room(bytes)) return false;
  HostUnits::Buffer buffer = home_.host.take(bytes);
  std::vector<PartRead> reads;
  for (int32_t l = 0; l < layout_.layers; ++l)
    reads.push_back(
        {key,
         static_cast<uint32_t>(l),
         {buffer.get() + l * layout_.chunk_bytes(), static_cast<size_t>(layout_.chunk_bytes())}});
  store_.read(reads);
  for (const PartRead& read : reads)
    if (read.outcome != ReadOutcome::Ok) throw LostUnits({unit});
  home_.host.keep(key, buffer, bytes);
  context.has_in_host(unit, buffer.get());
  return true;
}

void GpuLookup::owe(GpuContext& context, int32_t set, int32_t row) {
  owed_.push_back({&context, set, row});
}

void GpuLookup::fetch() {
  gpu_.copy(host_chosen_, chosen_.as<int32_t>(), layout_.layers * choices() * 4);
  gpu_.copy(host_totals_, totals_.as<void>(), kTotalBytes);
}

void GpuLookup::tell() {
  for (const Owed& owed : owed_)
    if (owed.context) tell(owed);
  owed_.clear();
}

void GpuLookup::tell(const Owed& owed) {
  GpuContext& context = *owed.context;
  for (int32_t l = 0; l < layout_.layers; ++l) {
    const int32_t* chosen =
        host_chosen_ + ((int64_t{l} * sets_ + owed.set) * rows_ + owed.row) * select_;
    for (int32_t i = 0; i < select_ && chosen[i] >= 0; ++i) {
      context.picked.push_back(chosen[i]);
      ++context.counters.units_selected;
      want(context, chosen[i]);
    }
  }
  if (owed.set == 0) context.units_awaited += host_totals_[owed.row].fetched;
  context.counters.reads_ram = context.counters.units_selected - context.counters.reads_store;
}

void GpuLookup::forget(const GpuContext& context) noexcept {
  for (Owed& owed : owed_)
    if (owed.context == &context) owed.context = nullptr;
}

}  // namespace ringtide::model
