// Units in host memory: copies of one layer's payload of a unit, least recently used ones forgotten
// when the budget is reached. Copies are always clean, so forgetting is free.
//
// One thread (the engine's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/mapped_block.h"
#include "model/unit_store.h"

namespace ringtide::model {

class UnitCache {
 public:
  explicit UnitCache(UnitStore& store) : store_(store) {}

  struct Want {
    UnitKey key;
    uint32_t layer = 0;
    const std::byte* data = nullptr;  // out: null if the store does not have it whole
    bool from_store = false;          // out: was not in memory
  };
  // Makes every wanted payload of `bytes` bytes resident, reading missing ones from the store
  // together. Pointers hold until the next call. What the budget has no room for is held for this
  // call only.
  void fetch(std::span<Want> wants, int64_t bytes);
  // Takes a copy of a payload just sealed, if there is room by forgetting older ones.
  void admit(const UnitKey& key, uint32_t layer, std::span<const std::byte> payload);
  // Every layer of it: the store has other bytes now.
  void forget(const UnitKey& key);

  // Bytes it may hold; forgets at once what is beyond.
  void set_capacity(int64_t bytes);
  int64_t bytes() const { return bytes_; }

 private:
  struct Id {
    UnitKey key;
    uint32_t layer;
    bool operator==(const Id&) const = default;
  };
  struct Hash {
    size_t operator()(const Id& id) const {
      return id.key.lo ^ (uint64_t{id.layer} * 0x9E3779B97F4A7C15ull);
    }
  };
  struct Entry {
    Id id;
    int64_t bytes;
    uint64_t used;  // the call that wanted it last
    MappedBlock data;
  };
  using List = std::list<Entry>;  // most recently used first

  Entry& insert(const Id& id, int64_t bytes);
  void erase(List::iterator entry);
  // Forgets old entries that this call does not want until `bytes` more fit, or none is left.
  void make_room(int64_t bytes);

  UnitStore& store_;
  int64_t capacity_ = 0;
  int64_t bytes_ = 0;
  uint64_t call_ = 0;
  List entries_;
  std::unordered_map<Id, List::iterator, Hash> by_id_;
  std::vector<PartRead> reads_;
  std::vector<size_t> read_want_;
};

}  // namespace ringtide::model
