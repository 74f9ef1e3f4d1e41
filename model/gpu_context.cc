#include "model/gpu_context.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ringtide::model {

using kernels::cuda::Band;
using kernels::cuda::KvRef;
using kernels::cuda::LearnRun;

namespace {

// Slots of a layer: two lookups' worth, so that what the last one brought is still there.
int32_t slots_wanted(const MemoryPolicy& policy) {
  return policy.represents() ? 2 * policy.config().select : 0;
}

int64_t slot_state_bytes(int32_t layers, int64_t slots) { return layers * (slots * 16 + 4); }

}  // namespace

GpuContext::GpuContext(ContextId id, std::shared_ptr<const MemoryPolicy> policy,
                       const GpuLayout& layout, GpuHome& home, GpuPages& pages, int32_t hidden,
                       const std::string& fingerprint)
    : id_(id),
      policy_(std::move(policy)),
      layout_(layout),
      home_(home),
      pool_(pages),
      angles_(home.angles),
      history_(policy_->config(), fingerprint),
      index_(home.gpu, home.arena, layout),
      slot_count_(slots_wanted(*policy_)),
      hidden_(home.arena.take(hidden * static_cast<int64_t>(sizeof(float)))) {
  const PolicyConfig& config = policy_->config();
  if (retrieves()) {
    slots_ = home.arena.take(int64_t{layout.layers} * slot_count_ * layout.chunk_bytes());
    slot_state_ = home.arena.take(slot_state_bytes(layout.layers, slot_count_));
    home.gpu.fill(slot_state_.data(), 0, slot_state_.bytes());
    home.gpu.fill(slots(0).unit, 0xff, int64_t{layout.layers} * slot_count_ * 8);
  }
  constexpr int64_t kNoLimit = int64_t{1} << 40;
  home.angles.set(angles_.limit(), std::min(query_limit(), kNoLimit), 1);
  home.angles.set(angles_.lookup(), config.window - 1, 1);
  pool_.reserve(window_pages(config));
  home.living.push_back(this);
}

GpuContext::~GpuContext() {
  home_.spill.leave(this);
  home_.gone(*this);
  std::erase(home_.living, this);
  for (GpuPage* page : pages_) pool_.give(page);
  if (first_) pool_.give(first_);
  pool_.unreserve(window_pages(policy_->config()));
}

int64_t GpuContext::window_pages(const PolicyConfig& config) {
  return config.window / config.unit + config.block / config.unit + 2;
}

int64_t GpuContext::reserved_bytes(const MemoryPolicy& policy, const GpuLayout& layout) {
  const int64_t slots = slots_wanted(policy);
  return (window_pages(policy.config()) + 1) / 2 * GpuPages::pair_bytes(layout) +
         layout.layers * slots * layout.chunk_bytes() + slot_state_bytes(layout.layers, slots);
}

// -- a pass ----

void GpuContext::begin(int64_t tokens) {
  const int64_t end = processed() + tokens, unit = layout_.unit;
  while ((base_ + static_cast<int64_t>(pages_.size())) * unit < end)
    pages_.push_back(take_page());
  const int64_t sealed_then = sealed_at(end);
  if (keeps_units())
    while (static_cast<int64_t>(kept_.size()) < sealed_then)
      kept_.push_back(home_.arena.take(layout_.payload_bytes()));
  if (looks_up() && sealed_then > sealed()) {
    index_.grow(sealed_then);
    // While their pages are still taken, they are read there.
    for (int64_t u = sealed(); u < sealed_then; ++u) index_.set_payload(u, live(u).payload);
  }
  index_.send();
}

// Pages of sealed units are free once what is stored of them is in host memory.
GpuPage* GpuContext::take_page() {
  home_.spill.settle(false);
  for (;;) {
    if (GpuPage* page = pool_.take()) return page;
    if (!home_.spill.settle_one()) throw std::logic_error("more pages are in use than reserved");
  }
}

GpuPage* GpuContext::page(int64_t unit) const {
  const int64_t at = unit - base_;
  if (at >= 0 && at < static_cast<int64_t>(pages_.size())) return pages_[at];
  return unit == 0 ? first_ : nullptr;
}

GpuContext::Place GpuContext::place(int64_t position) const {
  const GpuPage& at = *page(position / layout_.unit);
  const auto token = static_cast<int32_t>(position % layout_.unit);
  return {at.raw_row + token, at.rotated_row + token, at.v_row + token};
}

KvRef GpuContext::ref(int64_t unit, bool rotated, int32_t begin, int32_t end) const {
  const int64_t position = unit * layout_.unit;
  if (unit < base_ && keeps_units()) {
    const int32_t row = kept_[unit].row();
    return {row, row + layout_.plane_rows(), begin, end, position};
  }
  const GpuPage& at = *page(unit);
  return {rotated ? at.rotated_row : at.raw_row, at.v_row, begin, end, position};
}

void GpuContext::near(int64_t begin, int64_t end, std::vector<KvRef>& refs) const {
  const int64_t unit = layout_.unit, window = policy_->config().window;
  int64_t first = 0;
  if (!keeps_units()) first = std::max(sealed_at(begin), (begin - window + 1) / unit);
  for (int64_t u = first; u * unit < end; ++u)
    refs.push_back(ref(u, true, 0, static_cast<int32_t>(std::min(unit, end - u * unit))));
}

void GpuContext::far(int64_t begin, int64_t end, std::vector<KvRef>& refs) const {
  const PolicyConfig& config = policy_->config();
  if (keeps_units() || end <= config.window) return;
  const Always always = policy_->always();
  const bool rotated = policy_->position().rotate_keys;
  const int32_t sinks = always.sinks ? config.sinks : 0;
  const auto add = [&](int64_t u, int32_t from, int64_t to) {
    if (from < to) refs.push_back(ref(u, rotated, from, static_cast<int32_t>(to)));
  };
  const int64_t unit = config.unit;
  add(0, 0, std::min<int64_t>(sinks, end));
  if (!always.overflow) return;
  for (int64_t u = sealed_at(begin); u * unit + config.window < end; ++u)
    add(u, u == 0 ? sinks : 0, std::min(unit, end - u * unit));
}

Band GpuContext::near_band() const {
  return true_distance() ? Band{} : Band{0, int64_t{policy_->config().window} - 1};
}

Band GpuContext::far_band() const {
  return true_distance() ? Band{} : Band{.nearest = policy_->config().window};
}

void GpuContext::learn_runs(int64_t begin, int64_t end, int32_t row,
                            std::vector<LearnRun>& runs) const {
  const int64_t unit = layout_.unit, sealed = sealed_at(begin);
  for (int64_t p = begin; p < end;) {
    const int64_t number = p / unit, stop = std::min(end, (number + 1) * unit);
    LearnRun run;
    run.q_begin = row + static_cast<int32_t>(p - begin);
    run.q_end = row + static_cast<int32_t>(stop - begin);
    run.q_position = p;
    const GpuPage& own = live(number);
    run.query_sum = own.query_sum;
    run.own_row = own.rotated_row;
    run.own_end = static_cast<int32_t>(stop - number * unit);
    run.own_position = number * unit;
    run.own_sums = own.own_sums;
    const int64_t leaving = number - policy_->config().window / unit;
    if (leaving >= sealed) {
      const GpuPage& page = live(leaving);
      run.leaving_row = page.rotated_row;
      run.leaving_position = leaving * unit;
      run.leaving_sums = page.leaving_sums;
    }
    runs.push_back(run);
    p = stop;
  }
}

kernels::cuda::Memory GpuContext::memory(int64_t sealed) const {
  const PolicyConfig& config = policy_->config();
  return {.groups = index_.groups(),
          .sealed = static_cast<int32_t>(sealed),
          // A first unit made of nothing but sinks is always seen and never selected.
          .first = config.sinks == config.unit ? 1 : 0,
          .select = config.select,
          .payload = index_.payloads(),
          .sinks = policy_->always().sinks ? config.sinks : 0};
}

// Of all layers: ticks, units, copies, then what has begun.
kernels::cuda::Slots GpuContext::slots(int layer) const {
  const int64_t all = int64_t{layout_.layers} * slot_count_, at = int64_t{layer} * slot_count_;
  auto* const used = slot_state_.as<int64_t>();
  auto* const unit = reinterpret_cast<int32_t*>(used + all);
  int32_t* const copy = unit + all;
  return {.unit = unit + at,
          .used = used + at,
          .first_row = slots_.row() + layer * slot_count_ * layout_.layer_rows(),
          .slots = slot_count_,
          .copy = copy + at,
          .begun = reinterpret_cast<uint32_t*>(copy + all) + layer};
}

kernels::cuda::Represent GpuContext::represent(int64_t unit, const float** sums) const {
  const PolicyConfig& config = policy_->config();
  const GpuPage& page = live(unit);
  for (int32_t w = 0; w < whole_pages(); ++w) sums[w] = live(unit + 1 + w).query_sum;
  kernels::cuda::Represent r;
  r.shape = layout_.shape;
  r.unit = layout_.unit;
  r.arena = home_.arena.view();
  r.layers = layout_.layers;
  r.raw_row = page.raw_row;
  r.rotated_row = page.rotated_row;
  r.layer_rows = layout_.layer_rows();
  r.end_layer = layout_.layers;
  r.own_sums = page.own_sums;
  r.leaving_sums = page.leaving_sums;
  r.whole = whole_pages();
  r.scale = 1.0f / std::sqrt(static_cast<float>(layout_.shape.head_dim));
  r.begin = unit == 0 ? config.sinks : 0;
  r.take = std::min(config.representatives, config.unit - r.begin);
  r.out32 = page.representatives;
  r.group = index_.group(unit);
  r.slot = GpuIndex::slot(unit);
  return r;
}

void GpuContext::finish(std::span<const TokenId> tokens, std::span<const int32_t> lengths) {
  for (int32_t length : lengths) {
    const auto stored = static_cast<int64_t>(history_.page_keys().size());
    const int64_t sealed = history_.add(tokens.first(length));
    for (int64_t n = stored; n < static_cast<int64_t>(history_.page_keys().size()); ++n)
      store_page(n);
    for (int64_t n = sealed; n > 0; --n) seal();
    tokens = tokens.subspan(length);
  }
}

void GpuContext::store_page(int64_t number) {
  if (!home_.stores_pages) return;
  GpuPage* page = pages_[number - base_];
  const int64_t payload = layout_.payload_bytes();
  std::vector<GpuSpill::Piece> pieces{
      {home_.host.take(payload), page->payload, payload, layout_.layers}};
  if (looks_up()) {
    const HostUnits::Buffer sums = take_sums();
    pieces.push_back({sums, page->query_sum, layout_.query_bytes()});
    pieces.push_back(
        {{sums, sums.get() + layout_.query_bytes()}, page->own_sums, layout_.logit_bytes()});
  }
  home_.spill.add({this, SealedUnit::Kind::Unit, number, history_.page_keys()[number], page,
                   std::move(pieces)});
}

void GpuContext::seal() {
  const int64_t unit = base_++;
  GpuPage* page = pages_.front();
  pages_.pop_front();
  if (keeps_units())
    keep(unit, page);
  else if (unit == 0)
    first_ = page;
  std::vector<GpuSpill::Piece> pieces;
  if (looks_up()) pieces.push_back({take_sums(), page->representatives, layout_.query_bytes()});
  home_.spill.add({this, SealedUnit::Kind::Entry, unit, history_.keys()[unit], page,
                   std::move(pieces)});
}

void GpuContext::keep(int64_t unit, const GpuPage* page) {
  const int64_t plane = layout_.plane_bytes(), stride = layout_.chunk_bytes();
  std::byte* to = kept_[unit].data();
  const auto* rotated = reinterpret_cast<const std::byte*>(home_.arena.view().base) +
                        page->rotated_row * home_.arena.row_bytes();
  home_.gpu.copy_rows(to, stride, rotated, stride, plane, layout_.layers);
  home_.gpu.copy_rows(to + plane, stride, page->payload + plane, stride, plane, layout_.layers);
}

void GpuContext::left(const GpuSpill::Value& value) {
  if (value.kind == SealedUnit::Kind::Unit)
    return keep_in_host(value.number, value.pieces.front().to);
  if (looks_up())
    has_in_host(value.number, home_.host.find(history_.page_keys()[value.number]).get());
  if (value.page != first_) pool_.give(value.page);
}

void GpuContext::keep_in_host(int64_t unit, HostUnits::Buffer payload) {
  if (!looks_up() || policy_->reside(unit) != Residency::Keep) return;
  const UnitKey& key = history_.page_keys()[unit];
  home_.host.keep(key, std::move(payload), layout_.payload_bytes());
  if (const auto kept = home_.host.find(key)) in_host_[key] = {unit, kept.get()};
}

void GpuContext::has_in_host(int64_t unit, const std::byte* payload) {
  index_.set_payload(unit, payload);
  if (payload) in_host_[history_.page_keys()[unit]] = {unit, payload};
  staged.erase(unit);
}

void GpuContext::forgotten(const UnitKey& key) {
  const auto found = in_host_.find(key);
  if (found == in_host_.end()) return;
  const auto [unit, payload] = found->second;
  in_host_.erase(found);
  // In the window, and for a while after, it is read from its page.
  if (unit < index_.units() && index_.payload(unit) == payload) index_.set_payload(unit, nullptr);
}

ContextStats GpuContext::stats() const {
  ContextStats s = counters;
  s.tokens = processed();
  s.units = static_cast<int64_t>(history_.page_keys().size());
  const int64_t pages = static_cast<int64_t>(pages_.size()) + (first_ ? 1 : 0);
  s.gpu_bytes = pages * GpuPages::pair_bytes(layout_) / 2 +
                static_cast<int64_t>(kept_.size()) * layout_.payload_bytes() + slots_.bytes() +
                index_.bytes();
  s.host_bytes = static_cast<int64_t>(in_host_.size()) * layout_.payload_bytes();
  return s;
}

}  // namespace ringtide::model
