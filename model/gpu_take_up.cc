// A context of the device standing at a block's end of the past: pages of the window with what their
// own queries have taught, index and, under `exact`, all pages read back from the store.
#include <algorithm>

#include "model/gpu_context.h"

namespace ringtide::model {
namespace {

// Reads of the store, and which units they say are lost.
class Reads {
 public:
  explicit Reads(UnitStore& store) : store_(store) {}
  void add(int64_t unit, const UnitKey& key, uint32_t part, std::byte* into, int64_t bytes) {
    reads_.push_back({key, part, {into, static_cast<size_t>(bytes)}});
    units_.push_back(unit);
  }
  // Whether all is there.
  bool run() {
    store_.read(reads_);
    const size_t before = lost_.size();
    for (size_t i = 0; i < reads_.size(); ++i)
      if (reads_[i].outcome != ReadOutcome::Ok) lost_.push_back(units_[i]);
    reads_.clear();
    units_.clear();
    return lost_.size() == before;
  }
  std::vector<int64_t> lost() {
    std::sort(lost_.begin(), lost_.end());
    lost_.erase(std::unique(lost_.begin(), lost_.end()), lost_.end());
    return lost_;
  }

 private:
  UnitStore& store_;
  std::vector<PartRead> reads_;
  std::vector<int64_t> units_, lost_;
};

}  // namespace

std::vector<int64_t> GpuContext::absent(const History& history, int64_t tokens,
                                        UnitStore& store) const {
  std::vector<int64_t> absent;
  if (!looks_up() && !keeps_units()) return absent;
  const std::vector<UnitKey>& keys = keeps_units() ? history.page_keys() : history.keys();
  const int64_t sealed = history.sealed_at(tokens);
  const std::vector<bool> has = store.contains(std::span(keys).first(sealed));
  for (int64_t u = 0; u < sealed; ++u)
    if (!has[u]) absent.push_back(u);
  return absent;
}

std::vector<int64_t> GpuContext::take_up(const History& history, const TakeUp& at,
                                         UnitStore& store) {
  History past = history_;
  for (size_t b = 0; b < at.blocks; ++b) past.add(history.block(b));
  const int64_t sealed = past.sealed_at(at.tokens), pages = at.tokens / layout_.unit;
  Reads reads(store);

  HostUnits::Buffer payload, sums;  // of the page that was read last
  if (looks_up()) sums = take_sums();
  const auto read_page = [&](int64_t number, bool with_sums) {
    home_.gpu.synchronize();  // the device has read the last one
    const UnitKey& key = history.page_keys()[number];
    const auto layers = static_cast<uint32_t>(layout_.layers);
    payload = home_.host.find(key);
    if (!payload) {
      payload = home_.host.take(layout_.payload_bytes());
      for (uint32_t l = 0; l < layers; ++l)
        reads.add(number, key, l, payload.get() + l * layout_.chunk_bytes(), layout_.chunk_bytes());
    }
    if (with_sums) {
      reads.add(number, key, layers, sums.get(), layout_.query_bytes());
      reads.add(number, key, layers + 1, sums.get() + layout_.query_bytes(), layout_.logit_bytes());
    }
    return reads.run();
  };
  if (keeps_units()) {
    GpuPage* page = take_page();
    for (int64_t u = 0; u < sealed; ++u) {
      if (!read_page(u, false)) continue;
      if (static_cast<int64_t>(kept_.size()) == u)
        kept_.push_back(home_.arena.take(layout_.payload_bytes()));
      load(page, u, payload.get());
      if (static_cast<int64_t>(kept_.size()) > u) keep(u, page);
    }
    pool_.give(page);
  } else if (sealed > 0) {
    first_ = take_page();
    if (read_page(0, false)) load(first_, 0, payload.get());
  }
  std::vector<HostUnits::Buffer> window;
  for (int64_t n = sealed; n < pages; ++n) {
    pages_.push_back(take_page());
    if (!read_page(n, looks_up())) continue;
    load(pages_.back(), n, payload.get());
    if (!looks_up()) continue;
    home_.gpu.copy(pages_.back()->query_sum, sums.get(), layout_.query_bytes());
    home_.gpu.copy(pages_.back()->own_sums, sums.get() + layout_.query_bytes(),
                   layout_.logit_bytes());
    window.push_back(payload);
  }
  home_.gpu.synchronize();

  if (looks_up()) {
    index_.grow(sealed);
    const int64_t floats = layout_.query_floats();
    std::vector<float> rows(floats * kernels::cuda::kIndexGroup);
    for (int64_t u = 0; u < sealed;) {
      const int64_t n = std::min<int64_t>(kernels::cuda::kIndexGroup, sealed - u);
      for (int64_t i = 0; i < n; ++i)
        reads.add(u + i, history.keys()[u + i], 0,
                  reinterpret_cast<std::byte*>(rows.data() + i * floats), layout_.query_bytes());
      reads.run();
      for (int64_t i = 0; i < n; ++i) index_.set(u + i, rows.data() + i * floats);
      u += n;
    }
  }
  auto lost = reads.lost();
  if (!lost.empty()) return lost;

  history_ = std::move(past);
  base_ = sealed;
  // What leaves the window again is looked up in host memory.
  for (size_t i = 0; i < window.size(); ++i)
    keep_in_host(sealed + static_cast<int64_t>(i), std::move(window[i]));
  if (looks_up())
    for (int64_t u = 0; u < sealed; ++u)
      if (const auto here = home_.host.find(history_.page_keys()[u])) has_in_host(u, here.get());
  return {};
}

void GpuContext::load(GpuPage* page, int64_t unit, const std::byte* payload) {
  home_.gpu.copy(page->payload, payload, layout_.payload_bytes());
  rotate(page, unit);
}

void GpuContext::rotate(GpuPage* page, int64_t unit) {
  home_.angles.set(0, unit * layout_.unit, layout_.unit);
  for (int32_t l = 0; l < layout_.layers; ++l)
    home_.gpu.rotate_plane(layout_.shape, layout_.unit, home_.arena.view(),
                     page->raw_row + l * layout_.layer_rows(),
                     page->rotated_row + l * layout_.layer_rows(), home_.angles.cos(),
                     home_.angles.sin(), 0);
}

}  // namespace ringtide::model
