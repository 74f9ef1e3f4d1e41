// Units in pinned host memory, where the device reads them: whole units, those not wanted for longest
// forgotten when the budget is reached. Copies are always clean, so forgetting is free.
//
// The engine's thread; only buffers may be let go by others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>

#include "kernels/gpu.h"
#include "model/unit_store.h"

namespace ringtide::model {

struct UnitKeyHash {
  size_t operator()(const UnitKey& key) const { return key.lo; }
};

class HostUnits {
 public:
  // `forgotten` is told of a unit before its buffer is used again.
  HostUnits(std::shared_ptr<kernels::Gpu> gpu, int64_t budget,
            std::function<void(const UnitKey&)> forgotten);

  // Pinned memory that goes back to be used again with its last owner. Forgets units until there is
  // room for it; where nothing is left to forget, takes more than the budget.
  using Buffer = std::shared_ptr<std::byte>;
  Buffer take(int64_t bytes);
  bool has_room(int64_t bytes) const { return bytes_ + bytes <= budget_; }

  // What the budget has no room for is forgotten at once.
  void keep(const UnitKey& key, Buffer buffer, int64_t bytes);
  // Null where it is not here. Both count as wanted now.
  Buffer find(const UnitKey& key);
  void want(const UnitKey& key) { find(key); }

  int64_t bytes() const { return bytes_; }  // of units kept
  int64_t budget() const { return budget_; }

 private:
  struct Entry {
    UnitKey key;
    Buffer buffer;
    int64_t bytes;
  };
  using List = std::list<Entry>;  // most recently wanted first
  class Pool;
  void forget_beyond(int64_t bytes);

  std::shared_ptr<Pool> pool_;
  const int64_t budget_;
  const std::function<void(const UnitKey&)> forgotten_;
  int64_t bytes_ = 0;
  List entries_;
  std::unordered_map<UnitKey, List::iterator, UnitKeyHash> by_key_;
};

}  // namespace ringtide::model
