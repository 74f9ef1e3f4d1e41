// A unit store for measurements of what is not a store.
#pragma once

#include "model/unit_store.h"

namespace ringtide::deploy {

// Takes units and keeps none: what a store costs is another benchmark's.
class NoStore : public model::UnitStore {
 public:
  void put(uint64_t, model::SealedUnit) override {}
  void read(std::span<model::PartRead> reads) override {
    for (model::PartRead& r : reads) r.outcome = model::ReadOutcome::Absent;
  }
  std::vector<bool> contains(std::span<const model::UnitKey> keys) override {
    return std::vector<bool>(keys.size());
  }
};

}  // namespace ringtide::deploy
