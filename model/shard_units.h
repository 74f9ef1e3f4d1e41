// The unit stores of all shards as one, for what a ring does together: standing on stored units,
// and bringing back what is missing.
//
// A page lies in the stores of the shards that keep it, of this ring or of others before, entries and
// groups of the index in every shard's. Reads and questions are made by all shards at the same place, of the
// same keys and parts; what one store lacks is sent by a shard that has it. Stores may differ in a
// unit that rings of several sizes have made, by its sums' rounding: what is read is one shard's, on
// all. Throws RingError. The engine's thread.
#pragma once

#include <span>
#include <vector>

#include "model/history.h"
#include "model/page.h"
#include "model/page_owners.h"
#include "model/shard_ring.h"
#include "model/unit_store.h"

namespace ringtide::model {

class ShardUnits final : public UnitStore {
 public:
  ShardUnits(UnitStore& own, ShardRing& ring) : own_(own), ring_(ring) {}

  // Into this shard's store; no exchange.
  void put(uint64_t owner, SealedUnit unit) override { own_.put(owner, std::move(unit)); }
  // Where `into` is empty this shard does not want the part. Outcomes, and whether stores differed,
  // are the same on all shards: Ok where everybody who wants the part has got it, else Absent.
  void read(std::span<PartRead> reads) override;
  // Whether some shard has them.
  std::vector<bool> contains(std::span<const UnitKey> keys) override;
  using UnitStore::contains;

  // Puts into the stores of those who keep them the pages of those of `units` that any shard has.
  // Returns the others.
  std::vector<int64_t> bring(uint64_t owner, const History& history, const PageLayout& layout,
                             const PageOwners& owners, std::span<const int64_t> units);

 private:
  void send(std::span<PartRead> reads, std::span<const int64_t> sizes);

  UnitStore& own_;
  ShardRing& ring_;
};

}  // namespace ringtide::model
