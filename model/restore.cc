#include "model/restore.h"

#include <algorithm>

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

// Attempts at standing on what the store gives before starting from nothing, which always works.
constexpr int kAttempts = 3;

// Fills `context` with the last state at or before `limit`, or leaves it at the beginning. Returns
// the units that are missing for that; the context is not usable then.
std::vector<int64_t> stand_on(Resumable& context, const History& history, int64_t limit,
                              const Passes& passes) {
  const TakeUp at = find_take_up(history, limit, passes.store);
  if (at.tokens == 0) return {};
  auto missing = context.absent(history, at.tokens, passes.store);
  if (missing.empty()) missing = context.take_up(history, at, passes.store);
  return missing;
}

std::span<const TokenId> next_block(const Resumable& context, const History& history) {
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
  const int64_t sealed = history.sealed_at(context_->processed());
  const auto rebuilt = std::erase_if(units_, [&](int64_t u) { return u < sealed; });
  rebuilt_ += static_cast<int64_t>(rebuilt);
  // Units close to each other share a run.
  const int64_t near = history.policy().window / history.policy().unit;
  if (done() || (rebuilt > 0 && units_.front() - sealed > near)) context_.reset();
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
