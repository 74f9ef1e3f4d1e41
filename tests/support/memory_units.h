// A unit store in memory, with the faults that a real one may meet.
#pragma once

#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "model/unit_store.h"

namespace ringtide::testing {

class MemoryUnits : public model::UnitStore {
 public:
  void put(uint64_t, model::SealedUnit unit) override {
    std::lock_guard lock(mutex_);
    ++puts;
    if (refuses) return;
    auto& parts = units_[unit.key];
    if (parts.empty() || unit.replaces) {
      parts.clear();
      for (auto part : unit.parts) parts.emplace_back(part.begin(), part.end());
      corrupt_.erase(unit.key);
    }
    (unit.is_group ? groups_ : numbers_)[unit.number] = unit.key;
  }
  void read(std::span<model::PartRead> reads) override {
    std::lock_guard lock(mutex_);
    for (auto& r : reads) {
      auto found = units_.find(r.key);
      if (found == units_.end()) {
        r.outcome = model::ReadOutcome::Absent;
      } else if (corrupt_.contains(r.key) || found->second.at(r.part).size() != r.into.size()) {
        r.outcome = model::ReadOutcome::Corrupt;
        units_.erase(found);
      } else {
        std::memcpy(r.into.data(), found->second[r.part].data(), r.into.size());
        r.outcome = model::ReadOutcome::Ok;
        ++part_reads;
        for (const auto& [number, key] : groups_) group_reads += key == r.key;
      }
    }
  }
  bool contains(const model::UnitKey& key) override {
    std::lock_guard lock(mutex_);
    return units_.contains(key);
  }

  // -- for tests ----
  std::map<model::UnitKey, std::vector<std::vector<std::byte>>> snapshot() {
    std::lock_guard lock(mutex_);
    return units_;
  }
  void lose(int64_t number) {
    std::lock_guard lock(mutex_);
    units_.erase(numbers_.at(number));
  }
  void corrupt(int64_t number) {
    std::lock_guard lock(mutex_);
    corrupt_.insert(numbers_.at(number));
  }
  void lose_group(int64_t number) {
    std::lock_guard lock(mutex_);
    units_.erase(groups_.at(number));
  }
  void corrupt_group(int64_t number) {
    std::lock_guard lock(mutex_);
    corrupt_.insert(groups_.at(number));
  }
  // Every fourth of what is here, more or less.
  void lose_some(uint64_t seed) {
    std::lock_guard lock(mutex_);
    std::erase_if(units_, [&](const auto& u) { return (u.first.lo ^ seed) % 4 == 0; });
  }
  int64_t groups() {
    std::lock_guard lock(mutex_);
    return static_cast<int64_t>(groups_.size());
  }
  void clear() {
    std::lock_guard lock(mutex_);
    units_.clear();
  }
  // Which of several stores that share this memory have what lies here (sharded_engine.h).
  void hold(int shard, const model::UnitKey& key) {
    std::lock_guard lock(mutex_);
    holders_[key].insert(shard);
  }
  bool held(int shard, const model::UnitKey& key) {
    std::lock_guard lock(mutex_);
    const auto found = holders_.find(key);
    return found != holders_.end() && found->second.contains(shard);
  }
  void let_go(int shard) {
    std::lock_guard lock(mutex_);
    for (auto& [key, shards] : holders_) shards.erase(shard);
  }
  int64_t puts = 0, part_reads = 0, group_reads = 0;
  bool refuses = false;  // what is put is lost at once, as on a full disk

 private:
  std::mutex mutex_;
  std::map<model::UnitKey, std::vector<std::vector<std::byte>>> units_;
  std::map<int64_t, model::UnitKey> numbers_, groups_;  // of the last put
  std::set<model::UnitKey> corrupt_;
  std::map<model::UnitKey, std::set<int>> holders_;
};

}  // namespace ringtide::testing
