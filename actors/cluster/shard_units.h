// A shard's store of units. Sessions are the leader's; here each has an entry under its number, so
// that its units have an owner and go when it is gone.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "actors/unit_shelf.h"

namespace ringtide::actors::cluster {

// The engine's thread, but for contains() and read().
class ShardUnits final : public model::UnitStore {
 public:
  // Both outlive it.
  ShardUnits(storage::Store& store, UnitShelf& shelf) : store_(store), shelf_(shelf) {}

  void put(uint64_t owner, model::SealedUnit unit) override;
  void read(std::span<model::PartRead> reads) override { shelf_.read(reads); }
  std::vector<bool> contains(std::span<const model::UnitKey> keys) override {
    return shelf_.contains(keys);
  }
  using UnitStore::contains;

  // Units that it has of a session of the leader's, and their bytes; the rest of it is 0.
  storage::SessionSize size(uint64_t session);

  // Removes what belongs to other sessions than these of the leader's.
  void keep_only(const std::vector<uint64_t>& sessions);

 private:
  static std::string name_of(uint64_t session) { return "session " + std::to_string(session); }

  storage::Store& store_;
  UnitShelf& shelf_;
  std::map<uint64_t, storage::SessionId> owners_;  // by the leader's number
};

}  // namespace ringtide::actors::cluster
