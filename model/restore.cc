#include "model/restore.h"

#include <algorithm>

#include "model/group_reader.h"

namespace ringtide::model {

TakeUp find_take_up(const History& history, int64_t limit, UnitStore& store) {
  const int64_t unit = history.policy().unit;
  const auto& ends = history.block_ends();
  const int64_t known = static_cast<int64_t>(history.keys().size());
  if (known == 0 || !store.contains(history.keys()[0])) return {};
  int64_t ceiling = known;  // pages a take-up may stand on: those below the lowest one found absent
  for (size_t b = ends.size(); b-- > 0;) {
    const int64_t end = ends[b], pages = end / unit;
    if (end > limit || end == history.tokens() || end % unit != 0 || pages > ceiling) continue;
    const int64_t first = history.sealed_at(end);
    int64_t u = pages - 1;
    while (u >= first && store.contains(history.keys()[u])) --u;
    if (u < first) return {end, b + 1};
    ceiling = u;
  }
  return {};
}

namespace {

// The first `sealed` units into an empty index: full groups by their summaries, made again of their
// units where they are lost, and the rest unit by unit. Returns the units that are missing for
// that.
std::vector<int64_t> fill_index(UnitIndex& index, const History& history, int64_t sealed,
                                Context& context, UnitStore& store) {
  constexpr int64_t kAtOnce = 64;  // reads: bounds what is held beside the index
  const PageLayout& layout = index.layout();
  const uint32_t last_part = static_cast<uint32_t>(layout.layers);
  const int64_t groups = sealed / UnitIndex::kGroup, open = sealed % UnitIndex::kGroup;
  std::vector<int64_t> lost;
  std::vector<std::byte> bytes;
  std::vector<PartRead> reads;
  const auto read = [&](int64_t n, int64_t size, const auto& key) {
    bytes.resize(n * size);
    reads.clear();
    for (int64_t i = 0; i < n; ++i)
      reads.push_back({key(i), last_part, std::span(bytes).subspan(i * size, size)});
    store.read(reads);
  };
  for (int64_t first = 0; first < groups; first += kAtOnce) {
    read(std::min(kAtOnce, groups - first), IndexGroup::summary_bytes(layout),
         [&](int64_t i) { return history.group_key(first + i); });
    for (size_t i = 0; i < reads.size(); ++i) {
      std::shared_ptr<const IndexGroup> made;
      if (reads[i].outcome != ReadOutcome::Ok)
        made = remake_group(history, layout, first + static_cast<int64_t>(i), context.id(), store,
                            lost);
      if (made) ++context.counters.groups_remade;
      if (lost.empty()) index.add_group(made ? made->summary() : reads[i].into);
    }
  }
  read(open, layout.unit_index_bytes(),
       [&](int64_t i) { return history.keys()[groups * UnitIndex::kGroup + i]; });
  for (int64_t i = 0; i < open; ++i) {
    if (reads[i].outcome != ReadOutcome::Ok) lost.push_back(groups * UnitIndex::kGroup + i);
    if (lost.empty()) index.add(reads[i].into);
  }
  return lost;
}

}  // namespace

std::vector<int64_t> take_up(Context& context, const History& history, const TakeUp& at,
                             const std::string& fingerprint, UnitStore& store) {
  const PageLayout& layout = context.layout();
  const uint32_t last_part = static_cast<uint32_t>(layout.layers);
  History past(history.policy(), fingerprint);
  for (size_t b = 0; b < at.blocks; ++b) past.add(history.block(b));
  const int64_t sealed = past.sealed_at(at.tokens);

  std::vector<PartRead> reads;
  std::vector<int64_t> unit_of;
  auto read = [&](int64_t unit, uint32_t part, std::span<std::byte> into) {
    reads.push_back({history.keys()[unit], part, into});
    unit_of.push_back(unit);
  };
  auto load_page = [&](int64_t unit) {
    std::shared_ptr<Page> page = context.new_page(unit);
    for (uint32_t l = 0; l < last_part; ++l) read(unit, l, page->chunk(static_cast<int>(l)));
    if (layout.representatives) read(unit, last_part, page->representatives());
    page->represented = layout.representatives;
    return page;
  };
  std::shared_ptr<Page> first;
  std::vector<std::shared_ptr<Page>> pages;
  if (sealed > 0) first = load_page(0);
  for (int64_t u = sealed; u < at.tokens / layout.unit; ++u) pages.push_back(load_page(u));

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
    const auto more = fill_index(index, history, sealed, context, store);
    lost.insert(lost.end(), more.begin(), more.end());
  }
  if (!lost.empty()) return lost;
  context.resume(std::move(past), std::move(pages), std::move(first), std::move(index));
  return {};
}

namespace {

// Attempts at standing on what the store gives before starting from nothing, which always works.
constexpr int kAttempts = 3;

// Of the units whose index entries a context needs, because their group is not stored: those that
// the store does not have, ascending.
std::vector<int64_t> absent_units(const Context& context, const History& history, int64_t tokens,
                                  UnitStore& store) {
  std::vector<int64_t> absent;
  if (!context.layout().representatives) return absent;
  const int64_t sealed = history.sealed_at(tokens);
  for (int64_t u = 0; u < sealed; ++u) {
    const int64_t group = u / UnitIndex::kGroup, end = (group + 1) * UnitIndex::kGroup;
    if (u % UnitIndex::kGroup == 0 && end <= sealed && store.contains(history.group_key(group)))
      u = end - 1;
    else if (!store.contains(history.keys()[u]))
      absent.push_back(u);
  }
  return absent;
}

// Fills `context` with the last state at or before `limit`, or leaves it at the beginning. Returns
// the units that are missing for that; the context is not usable then.
std::vector<int64_t> stand_on(Context& context, const History& history, int64_t limit,
                              const Passes& passes) {
  const TakeUp at = find_take_up(history, limit, passes.store);
  if (at.tokens == 0) return {};
  auto missing = absent_units(context, history, at.tokens, passes.store);
  if (missing.empty()) missing = take_up(context, history, at, passes.fingerprint, passes.store);
  return missing;
}

std::span<const TokenId> next_block(const Context& context, const History& history) {
  const auto& ends = history.block_ends();
  return history.block(std::upper_bound(ends.begin(), ends.end(), context.processed()) -
                       ends.begin());
}

}  // namespace

Rebuild::Rebuild(std::vector<int64_t> units) { add(units); }

void Rebuild::add(const std::vector<int64_t>& units) {
  units_.insert(units_.end(), units.begin(), units.end());
  std::sort(units_.begin(), units_.end());
  units_.erase(std::unique(units_.begin(), units_.end()), units_.end());
}

void Rebuild::step(const History& history, const Passes& passes) {
  if (done()) return;
  if (!context_) return begin(history, passes);
  passes.run(*context_, next_block(*context_, history));
  const auto rebuilt = std::erase_if(units_, [&](int64_t u) { return u < context_->sealed(); });
  rebuilt_ += static_cast<int64_t>(rebuilt);
  // Units close to each other share a run.
  const int64_t near = history.policy().window / history.policy().unit;
  if (done() || (rebuilt > 0 && units_.front() - context_->sealed() > near)) context_.reset();
}

// Stands below the lowest unit; what is missing for that is lower still and comes first, so this
// ends.
void Rebuild::begin(const History& history, const Passes& passes) {
  context_ = passes.make_context();
  if (failures_ == kAttempts) return;
  const auto missing = stand_on(*context_, history, units_.front() * history.policy().unit, passes);
  if (missing.empty()) return;
  ++failures_;
  context_.reset();
  add(missing);
}

void Return::step(const Passes& passes) {
  if (rebuild_) {
    rebuild_->step(history_, passes);
    done_ = std::min(done_ + history_.policy().block, total_);
    if (!rebuild_->done()) return;
    rebuilt_ += rebuild_->rebuilt();
    rebuild_.reset();
    return;
  }
  if (!context_) return begin(passes);
  const int64_t before = context_->processed();
  passes.run(*context_, next_block(*context_, history_));
  done_ += context_->processed() - before;
}

void Return::begin(const Passes& passes) {
  auto context = passes.make_context();
  if (failures_ < kAttempts) {
    auto missing = stand_on(*context, history_, history_.tokens(), passes);
    if (!missing.empty()) {
      ++failures_;
      // About what rebuilding takes: the units, and a window behind each run of them.
      const PolicyConfig& policy = history_.policy();
      total_ = done_ + policy.window;
      for (size_t i = 0; i < missing.size(); ++i) {
        const int64_t gap = i == 0 ? policy.window : (missing[i] - missing[i - 1]) * policy.unit;
        total_ += std::min<int64_t>(gap, policy.window);
      }
      rebuild_ = std::make_unique<Rebuild>(std::move(missing));
      return;
    }
  }
  total_ = done_ + history_.tokens() - context->processed();
  context_ = std::move(context);
}

}  // namespace ringtide::model
