// Standing at a block's end of the past: pages and index read back from stored units and groups.
#include <algorithm>
#include <utility>

#include "model/context.h"
#include "model/group_reader.h"

namespace ringtide::model {
namespace {

// The first `sealed` units into an empty index: full groups by their summaries, made again of their
// units where they are lost, or where shards have different ones, and the rest unit by unit.
// Returns the units that are missing for that.
std::vector<int64_t> fill_index(UnitIndex& index, const History& history, int64_t sealed,
                                Context& context, UnitStore& store) {
  constexpr int64_t kAtOnce = 64;  // reads: bounds what is held beside the index
  const PageLayout& layout = index.layout();
  const uint32_t last_part = static_cast<uint32_t>(layout.layers);
  const int64_t groups = sealed / UnitIndex::kGroup, open = sealed % UnitIndex::kGroup;
  std::vector<int64_t> lost;
  std::vector<std::byte> bytes;
  std::vector<PartRead> reads;
  const auto read = [&](int64_t n, uint32_t part, int64_t size, const auto& key) {
    bytes.resize(n * size);
    reads.clear();
    for (int64_t i = 0; i < n; ++i)
      reads.push_back({key(i), part, std::span(bytes).subspan(i * size, size)});
    store.read(reads);
  };
  for (int64_t first = 0; first < groups; first += kAtOnce) {
    read(std::min(kAtOnce, groups - first), last_part, IndexGroup::summary_bytes(layout),
         [&](int64_t i) { return history.group_key(first + i); });
    for (size_t i = 0; i < reads.size(); ++i) {
      std::shared_ptr<const IndexGroup> made;
      if (reads[i].outcome != ReadOutcome::Ok || reads[i].differed)
        made = remake_group(history, layout, first + static_cast<int64_t>(i), context.id(), store,
                            lost);
      if (made) ++context.counters.groups_remade;
      if (lost.empty()) index.add_group(made ? made->summary() : reads[i].into);
    }
  }
  read(open, 0, layout.unit_index_bytes(),
       [&](int64_t i) { return history.keys()[groups * UnitIndex::kGroup + i]; });
  for (int64_t i = 0; i < open; ++i) {
    if (reads[i].outcome != ReadOutcome::Ok) lost.push_back(groups * UnitIndex::kGroup + i);
    if (lost.empty()) index.add(reads[i].into);
  }
  return lost;
}

}  // namespace

// A unit is needed where the index group that it is in is not stored.
std::vector<int64_t> Context::absent(const History& history, int64_t tokens,
                                     UnitStore& store) const {
  std::vector<int64_t> absent;
  if (!layout_.representatives) return absent;
  const int64_t sealed = history.sealed_at(tokens);
  std::vector<UnitKey> groups;
  for (int64_t g = 0; (g + 1) * UnitIndex::kGroup <= sealed; ++g)
    groups.push_back(history.group_key(g));
  const std::vector<bool> has_group = store.contains(groups);
  std::vector<int64_t> units;
  for (int64_t u = 0; u < sealed; ++u) {
    const auto group = static_cast<size_t>(u / UnitIndex::kGroup);
    if (group >= groups.size() || !has_group[group]) units.push_back(u);
  }
  std::vector<UnitKey> keys;
  for (const int64_t u : units) keys.push_back(history.keys()[u]);
  const std::vector<bool> has_unit = store.contains(keys);
  for (size_t i = 0; i < units.size(); ++i)
    if (!has_unit[i]) absent.push_back(units[i]);
  return absent;
}

std::vector<int64_t> Context::take_up(const History& history, const TakeUp& at, UnitStore& store) {
  const PageLayout& layout = layout_;
  const uint32_t last_part = static_cast<uint32_t>(layout.layers);
  History past = history_;
  PageOwners owners = owners_;
  for (size_t b = 0; b < at.blocks; ++b) {
    past.add(history.block(b));
    owners.append(static_cast<int64_t>(history.block(b).size()));
  }
  const int64_t sealed = past.sealed_at(at.tokens);

  std::vector<PartRead> reads;
  std::vector<int64_t> unit_of;
  auto read = [&](int64_t unit, uint32_t part, std::span<std::byte> into) {
    reads.push_back({history.page_keys()[unit], part, into});
    unit_of.push_back(unit);
  };
  auto load_page = [&](int64_t unit) {
    std::shared_ptr<Page> page = new_page(unit, owners);
    for (uint32_t l = 0; l < last_part; ++l) read(unit, l, page->chunk(static_cast<int>(l)));
    return page;
  };
  std::shared_ptr<Page> first;
  std::vector<std::shared_ptr<Page>> pages;
  if (sealed > 0) first = load_page(0);
  for (int64_t u = sealed; u < at.tokens / layout.unit; ++u) {
    pages.push_back(load_page(u));
    if (!layout.representatives) continue;
    read(u, last_part, std::as_writable_bytes(pages.back()->query_sums()));
    read(u, last_part + 1, std::as_writable_bytes(pages.back()->logit_sums()));
  }

  auto lost_of = [&] {
    std::vector<int64_t> lost;
    store.read(reads);
    for (size_t i = 0; i < reads.size(); ++i)
      if (reads[i].outcome != ReadOutcome::Ok) lost.push_back(unit_of[i]);
    reads.clear();
    unit_of.clear();
    std::sort(lost.begin(), lost.end());
    lost.erase(std::unique(lost.begin(), lost.end()), lost.end());
    return lost;
  };
  auto lost = lost_of();

  UnitIndex index(layout);
  if (layout.representatives) {
    const auto more = fill_index(index, history, sealed, *this, store);
    lost.insert(lost.end(), more.begin(), more.end());
  }
  if (!lost.empty()) return lost;
  history_ = std::move(past);
  owners_ = std::move(owners);
  base_ = sealed;
  pages_.assign(pages.begin(), pages.end());
  first_ = std::move(first);
  index_ = std::move(index);
  // Shards that keep a page may have been sent it.
  if (ring_)
    for (int64_t u = base_; u < pages_end(); ++u) store_page(u, pages_[u - base_], store);
  return {};
}

std::vector<int64_t> Context::bring(std::span<const int64_t> units, ShardUnits& store) const {
  return store.bring(id_, history_, layout_, owners_, units);
}

}  // namespace ringtide::model
