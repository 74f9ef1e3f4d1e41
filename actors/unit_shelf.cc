#include "actors/unit_shelf.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <utility>

namespace ringtide::actors {
namespace {

storage::ContentKey to_key(const model::UnitKey& key) { return {key.hi, key.lo}; }

int64_t first_number(model::SealedUnit::Kind kind) {
  using Kind = model::SealedUnit::Kind;
  return kind == Kind::Group   ? storage::kGroupNumbers
         : kind == Kind::Entry ? storage::kEntryNumbers
                               : 0;
}

model::ReadOutcome to_outcome(storage::ReadOutcome outcome) {
  switch (outcome) {
    case storage::ReadOutcome::Ok:
      return model::ReadOutcome::Ok;
    case storage::ReadOutcome::Corrupt:
      return model::ReadOutcome::Corrupt;
    case storage::ReadOutcome::Absent:
      break;
  }
  return model::ReadOutcome::Absent;
}

}  // namespace

void UnitShelf::on_wake(std::function<void()> wake) {
  std::unique_lock lock(mutex_);
  wake_ = std::move(wake);
  awake_ = !units_.empty();
  if (awake_ && wake_) wake_();
}

// -- the engine ----

void UnitShelf::put(uint64_t owner, model::SealedUnit unit) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] { return bytes_ < limits_.shelf_bytes || abandoned_; });
  if (forgotten_.contains(owner)) return;
  if (unit.replaces && units_.contains(unit.key)) drop(unit.key);
  const auto [it, fresh] = units_.try_emplace(unit.key);
  Entry& entry = it->second;
  entry.owners.insert(owner);
  if (fresh) {
    for (const auto& part : unit.parts) entry.bytes += part.size();
    bytes_ += entry.bytes;
    order_.push_back(unit.key);
    entry.unit = std::move(unit);
    entry.version = ++versions_;
  }
  if (!std::exchange(awake_, true) && wake_) wake_();
}

void UnitShelf::read(std::span<model::PartRead> reads) {
  std::vector<storage::PartRead> stored;
  std::vector<size_t> places;
  for (size_t i = 0; i < reads.size(); ++i) {
    if (copy_from_shelf(reads[i])) continue;
    stored.push_back({to_key(reads[i].key), reads[i].part, reads[i].into, {}});
    places.push_back(i);
  }
  if (stored.empty()) return;
  store_.read(stored);
  for (size_t i = 0; i < stored.size(); ++i) {
    reads[places[i]].outcome = to_outcome(stored[i].outcome);
    if (stored[i].outcome == storage::ReadOutcome::Corrupt) {
      spdlog::warn("unit {:016x}{:016x}, part {}: stored bytes do not match; it is made again",
                   stored[i].key.hi, stored[i].key.lo, stored[i].part);
    }
  }
}

bool UnitShelf::copy_from_shelf(model::PartRead& read) {
  std::unique_lock lock(mutex_);
  const auto it = units_.find(read.key);
  if (it == units_.end()) return false;
  const auto& parts = it->second.unit.parts;
  if (read.part >= parts.size() || parts[read.part].size() != read.into.size()) {
    read.outcome = model::ReadOutcome::Corrupt;
    return true;
  }
  std::memcpy(read.into.data(), parts[read.part].data(), read.into.size());
  read.outcome = model::ReadOutcome::Ok;
  return true;
}

std::vector<bool> UnitShelf::contains(std::span<const model::UnitKey> keys) {
  std::vector<bool> has;
  {
    std::unique_lock lock(mutex_);
    for (const model::UnitKey& key : keys) has.push_back(units_.contains(key));
  }
  for (size_t i = 0; i < keys.size(); ++i)
    if (!has[i]) has[i] = store_.contains(to_key(keys[i]));
  return has;
}

// -- the keeper ----

class UnitShelf::Batch {
 public:
  // Copies hold the units' memory while they are written without the lock.
  explicit Batch(UnitShelf& shelf) : shelf_(shelf) {
    std::unique_lock lock(shelf_.mutex_);
    size_t bytes = 0;
    while (!shelf_.order_.empty() && (entries_.empty() || bytes < shelf_.limits_.batch_bytes)) {
      const auto it = shelf_.units_.find(shelf_.order_.front());
      if (it != shelf_.units_.end()) {
        entries_.push_back(it->second);
        bytes += it->second.bytes;
      }
      shelf_.order_.pop_front();
    }
  }
  ~Batch() {
    std::unique_lock lock(shelf_.mutex_);
    for (const Entry& entry : entries_) {
      const auto it = shelf_.units_.find(entry.unit.key);
      // One that replaces it has a turn of its own.
      if (it == shelf_.units_.end() || it->second.version != entry.version) continue;
      if (it->second.owners.size() > entry.owners.size()) {
        shelf_.order_.push_back(entry.unit.key);  // it gained an owner meanwhile
      } else {
        shelf_.drop(entry.unit.key);
      }
    }
    shelf_.awake_ = !shelf_.order_.empty();
    shelf_.room_.notify_all();
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  std::vector<storage::UnitWrite> writes() const {
    std::vector<storage::UnitWrite> writes;
    for (const Entry& entry : entries_) {
      for (const uint64_t owner : entry.owners) {
        const int64_t number = entry.unit.number + first_number(entry.unit.kind);
        // It replaces what was there before its first owner's, not its own.
        const bool replaces = entry.unit.replaces && owner == *entry.owners.begin();
        writes.push_back({owner, to_key(entry.unit.key), number, entry.unit.parts, replaces});
      }
    }
    return writes;
  }

 private:
  UnitShelf& shelf_;
  std::vector<Entry> entries_;
};

bool UnitShelf::write_batch() {
  {
    const Batch batch(*this);
    const auto writes = batch.writes();
    if (!writes.empty()) {
      const storage::Status status = store_.put(writes);
      if (!status.ok() && !failing_) {
        spdlog::error("units cannot be written and are let go: {}", status.message());
      }
      if (status.ok() && failing_) spdlog::info("units can be written again");
      failing_ = !status.ok();
    }
  }
  std::unique_lock lock(mutex_);
  return awake_;
}

void UnitShelf::drop(const model::UnitKey& key) {
  const auto it = units_.find(key);
  bytes_ -= it->second.bytes;
  units_.erase(it);
}

void UnitShelf::forget(uint64_t owner) {
  std::unique_lock lock(mutex_);
  forgotten_.insert(owner);
  for (auto it = units_.begin(); it != units_.end();) {
    const auto here = it++;
    if (here->second.owners.erase(owner) && here->second.owners.empty()) drop(here->first);
  }
  room_.notify_all();
}

void UnitShelf::remember(uint64_t owner) {
  std::unique_lock lock(mutex_);
  forgotten_.erase(owner);
}

void UnitShelf::abandon() {
  std::unique_lock lock(mutex_);
  abandoned_ = true;
  room_.notify_all();
}

}  // namespace ringtide::actors
