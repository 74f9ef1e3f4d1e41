// Representatives of full groups of an index, made readable: from memory, from the unit store, or,
// of a group that the store has lost, from its units.
//
// The engine's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "model/context.h"
#include "model/history.h"
#include "model/unit_cache.h"
#include "model/unit_index.h"
#include "model/unit_store.h"

namespace ringtide::model {

// What of a unit the store has lost.
enum class Lost : uint8_t { Page, Entry };
// Makes that of these units readable again, or throws. What a cache gave out is void afterwards.
using Recover = std::function<void(Context&, std::vector<int64_t>, Lost)>;

// Full group `number` as the unit store takes it.
SealedUnit sealed_group(const History& history, int64_t number,
                        std::shared_ptr<const IndexGroup> group, int32_t layers);

// A group made once more of its units' representatives, and put in place of what there is. Null if
// the store lacks some of those units, which are added to `lost`.
std::shared_ptr<const IndexGroup> remake_group(const History& history, const PageLayout& layout,
                                               int64_t number, uint64_t owner, UnitStore& store,
                                               std::vector<int64_t>& lost);

class GroupReader {
 public:
  // `cache` reads the groups; `store` gives the units that a lost one is made of.
  GroupReader(UnitCache& cache, UnitStore& store, Recover recover)
      : cache_(cache), store_(store), recover_(std::move(recover)) {}

  // rows[i]: representatives of full group groups[i] in `layer`, (kUnits, heads, head_dim). They
  // hold until the cache's next call. A group that is lost is added to `missing`, and its rows are
  // zeros.
  void fetch(Context& context, int layer, std::span<const int64_t> groups,
             std::vector<const std::byte*>& rows, std::vector<int64_t>& missing);
  // Makes a group again, for the next fetches of this layer whether or not the store keeps it. May
  // take passes: what the cache gave out is void afterwards.
  void remake(Context& context, int layer, int64_t group);
  // Forgets what was made again.
  void forget() { remade_.clear(); }

 private:
  UnitCache& cache_;
  UnitStore& store_;
  Recover recover_;
  std::vector<UnitCache::Want> wants_;
  std::map<UnitKey, std::vector<std::byte>> remade_;  // rows of one layer
  std::vector<std::byte> zeros_;
};

}  // namespace ringtide::model
