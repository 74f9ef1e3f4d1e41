// The store of a ring of GPUs, which is one for all its shards, as they restore a context from it:
// questions and reads that all make alike, and that have the same answers on all. The engine's thread.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "model/gpu_ring_link.h"
#include "model/unit_store.h"

namespace ringtide::model {

class GpuRingUnits final : public UnitStore {
 public:
  GpuRingUnits(UnitStore& store, GpuRingLink& ring) : store_(store), ring_(ring) {}

  // No exchange.
  void put(uint64_t owner, SealedUnit unit) override { store_.put(owner, std::move(unit)); }
  // Every shard reads all; Ok where all of them could.
  void read(std::span<PartRead> reads) override;
  // What any shard has seen there: its owner puts a unit before it asks, others may ask before that.
  std::vector<bool> contains(std::span<const UnitKey> keys) override;
  using UnitStore::contains;

 private:
  UnitStore& store_;
  GpuRingLink& ring_;
};

}  // namespace ringtide::model
