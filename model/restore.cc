#include "model/restore.h"

#include <algorithm>
#include <utility>

namespace ringtide::model {

namespace {

// Which pages are stored, from the first that is asked about down; the store is asked about many at
// once.
class StoredPages {
 public:
  StoredPages(std::span<const UnitKey> keys, UnitStore& store) : keys_(keys), store_(store) {}
  bool has(int64_t page) {
    if (stored_.empty()) first_ = page + 1;
    while (page < first_) {
      const int64_t end = first_, begin = std::max<int64_t>(0, end - kAtOnce);
      const auto more = store_.contains(keys_.subspan(begin, end - begin));
      stored_.insert(stored_.end(), more.rbegin(), more.rend());
      first_ = begin;
    }
    return stored_[first_ + static_cast<int64_t>(stored_.size()) - 1 - page];
  }

 private:
  static constexpr int64_t kAtOnce = 64;
  std::span<const UnitKey> keys_;
  UnitStore& store_;
  int64_t first_ = 0;         // that the store has been asked about
  std::vector<bool> stored_;  // of the pages from first_ on, the last one first
};

}  // namespace

TakeUp find_take_up(const History& history, std::span<const UnitKey> pages, int64_t limit,
                    UnitStore& store) {
  const int64_t unit = history.policy().unit;
  const auto& ends = history.block_ends();
  if (pages.empty() || !store.contains(pages[0])) return {};
  StoredPages stored(pages, store);
  // Pages a take-up may stand on: those below the lowest one found absent.
  int64_t ceiling = static_cast<int64_t>(pages.size());
  for (size_t b = ends.size(); b-- > 0;) {
    const int64_t end = ends[b], last = end / unit;
    if (end > limit || end == history.tokens() || end % unit != 0 || last > ceiling) continue;
    const int64_t first = history.sealed_at(end);
    int64_t u = last - 1;
    while (u >= first && stored.has(u)) --u;
    if (u < first) return {end, b + 1};
    ceiling = u;
  }
  return {};
}

namespace {

// Attempts at standing on what the store gives before starting from nothing, which always works.
constexpr int kAttempts = 3;

// A context in the last state at or before `limit` that the store gives, or at the beginning.
struct Stand {
  std::unique_ptr<Resumable> context;  // null: units are missing for it
  std::vector<int64_t> missing;        // which
  int64_t lost = 0;  // pages in the window that turned out to be lost: it stands before them
};

Stand stand_on(const History& history, int64_t limit, const Passes& passes) {
  Stand stand;
  for (;;) {
    auto context = passes.make_context();
    const TakeUp at = find_take_up(history, context->stored_pages(history), limit, passes.store);
    if (at.tokens > 0) stand.missing = context->absent(history, at.tokens, passes.store);
    if (at.tokens > 0 && stand.missing.empty())
      stand.missing = context->take_up(history, at, passes.store);
    if (stand.missing.empty()) {
      stand.context = std::move(context);
      return stand;
    }
    const auto window = std::ranges::lower_bound(stand.missing, history.sealed_at(at.tokens));
    if (window == stand.missing.end()) return stand;
    limit = *window * history.policy().unit;
    stand.lost += stand.missing.end() - window;
    stand.missing.clear();
  }
}

// The next block, and those behind it that can share its pass: none that another's sealing of a
// unit would come before.
void run_next(Resumable& context, const History& history, const Passes& passes) {
  const auto& ends = history.block_ends();
  const int64_t begin = context.processed(), most = history.policy().block;
  size_t b = std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin();
  std::vector<size_t> lengths = {history.block(b).size()};
  int64_t end = ends[b];
  const auto joins = [&](size_t length) { return static_cast<int64_t>(length) <= passes.joined; };
  while (++b < ends.size() && joins(lengths.back()) && joins(history.block(b).size()) &&
         ends[b] - begin <= most && history.sealed_at(end) == history.sealed_at(begin)) {
    lengths.push_back(history.block(b).size());
    end = ends[b];
  }
  passes.run(context, std::span(history.all_tokens()).subspan(begin, end - begin), lengths);
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
  run_next(*context_, history, passes);
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
  if (failures_ == kAttempts) {
    context_ = passes.make_context();
    return;
  }
  Stand stand = stand_on(history, units_.front() * history.policy().unit, passes);
  rebuilt_ += stand.lost;
  context_ = std::move(stand.context);
  if (context_) return;
  ++failures_;
  add(stand.missing);
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
  run_next(*context_, history_, passes);
  done_ += context_->processed() - before;
}

void Return::begin(const Passes& passes) {
  if (failures_ < kAttempts) {
    Stand stand = stand_on(history_, history_.tokens(), passes);
    rebuilt_ += stand.lost;
    context_ = std::move(stand.context);
    if (!context_) {
      ++failures_;
      // About what rebuilding takes: the units, and a window behind each run of them.
      const std::vector<int64_t>& missing = stand.missing;
      const PolicyConfig& policy = history_.policy();
      total_ = done_ + policy.window;
      for (size_t i = 0; i < missing.size(); ++i) {
        const int64_t gap = i == 0 ? policy.window : (missing[i] - missing[i - 1]) * policy.unit;
        total_ += std::min<int64_t>(gap, policy.window);
      }
      rebuild_ = std::make_unique<Rebuild>(missing);
      return;
    }
  } else {
    context_ = passes.make_context();
  }
  total_ = done_ + history_.tokens() - context_->processed();
}

}  // namespace ringtide::model
