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
    named(unit.kind)[unit.number] = unit.key;
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
  std::vector<bool> contains(std::span<const model::UnitKey> keys) override {
    std::lock_guard lock(mutex_);
    ++questions;
    std::vector<bool> has;
    for (const model::UnitKey& key : keys) has.push_back(units_.contains(key));
    return has;
  }
  using UnitStore::contains;

  // -- for tests ----
  std::map<model::UnitKey, std::vector<std::vector<std::byte>>> snapshot() {
    std::lock_guard lock(mutex_);
    return units_;
  }
  // Of a unit, all that there is.
  void lose(int64_t number) {
    lose_page(number);
    lose_entry(number);
  }
  void corrupt(int64_t number) {
    corrupt_page(number);
    std::lock_guard lock(mutex_);
    if (entries_.contains(number)) corrupt_.insert(entries_.at(number));
  }
  void lose_page(int64_t number) {
    std::lock_guard lock(mutex_);
    units_.erase(numbers_.at(number));
  }
  void corrupt_page(int64_t number) {
    std::lock_guard lock(mutex_);
    corrupt_.insert(numbers_.at(number));
  }
  void lose_entry(int64_t number) {
    std::lock_guard lock(mutex_);
    if (entries_.contains(number)) units_.erase(entries_.at(number));
  }
  // Units, or pages, that were ever put.
  int64_t pages() {
    std::lock_guard lock(mutex_);
    return static_cast<int64_t>(numbers_.size());
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
  int64_t puts = 0, part_reads = 0, group_reads = 0, questions = 0;
  bool refuses = false;  // what is put is lost at once, as on a full disk

 private:
  using Named = std::map<int64_t, model::UnitKey>;
  Named& named(model::SealedUnit::Kind kind) {
    using Kind = model::SealedUnit::Kind;
    return kind == Kind::Group ? groups_ : kind == Kind::Entry ? entries_ : numbers_;
  }
  std::mutex mutex_;
  std::map<model::UnitKey, std::vector<std::vector<std::byte>>> units_;
  Named numbers_, entries_, groups_;  // of the last put
  std::set<model::UnitKey> corrupt_;
  std::map<model::UnitKey, std::set<int>> holders_;
};

}  // namespace ringtide::testing
