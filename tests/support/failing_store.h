// A store in front of a real one that fails when told to.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "storage/store.h"

namespace ringtide::testing {

// What a test switches; outlives the stores.
struct StoreFaults {
  std::atomic<bool> log_full{false};     // appends to logs: NoSpace
  std::atomic<bool> units_full{false};   // puts of units: NoSpace
  std::atomic<bool> log_throws{false};   // the next append, once
  std::atomic<bool> units_throw{false};  // the next put of units, once
  std::atomic<bool> stays{false};        // removals: NoSpace
  std::function<void()> before_put;      // of units, if set; set before the store works
  std::atomic<int> appends{0};           // groups written to logs
  std::atomic<int> records{0};           // in them
};

class FailingStore : public storage::Store {
 public:
  FailingStore(std::unique_ptr<storage::Store> real, StoreFaults& faults)
      : real_(std::move(real)), faults_(faults) {}

  storage::Result<storage::SessionEntry> create(const std::string& name,
                                                const storage::Opened& opened) override {
    if (faults_.log_full) return full();
    return real_->create(name, opened);
  }
  storage::Result<storage::SessionEntry> find(const std::string& name) override {
    return real_->find(name);
  }
  storage::Result<storage::SessionEntry> find(storage::SessionId id) override {
    return real_->find(id);
  }
  storage::Result<std::vector<storage::SessionEntry>> list() override { return real_->list(); }
  storage::Status remove(storage::SessionId id) override {
    return faults_.stays ? full() : real_->remove(id);
  }
  storage::Result<storage::SessionSize> size(storage::SessionId id) override {
    return real_->size(id);
  }
  storage::Status append(std::span<const storage::LogWrite> writes) override {
    if (faults_.log_throws.exchange(false)) throw std::runtime_error("the store broke");
    if (faults_.log_full) return full();
    ++faults_.appends;
    faults_.records += static_cast<int>(writes.size());
    return real_->append(writes);
  }
  storage::Status replay(
      storage::SessionId id,
      const std::function<bool(uint64_t, storage::LogRecord&&)>& visit) override {
    return real_->replay(id, visit);
  }
  storage::Status put(std::span<const storage::UnitWrite> units) override {
    if (faults_.before_put) faults_.before_put();
    if (faults_.units_throw.exchange(false)) throw std::runtime_error("the store broke");
    if (faults_.units_full) return full();
    return real_->put(units);
  }
  bool contains(const storage::ContentKey& key) override { return real_->contains(key); }
  void read(std::span<storage::PartRead> reads) override { real_->read(reads); }
  storage::Status flush() override { return real_->flush(); }
  storage::StoreStats stats() override { return real_->stats(); }

 private:
  static storage::Status full() {
    return {storage::Code::NoSpace, "the disk is full: free some room"};
  }
  std::unique_ptr<storage::Store> real_;
  StoreFaults& faults_;
};

}  // namespace ringtide::testing
