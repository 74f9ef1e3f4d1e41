// Sealed units on their way to the store: readable at once, written behind by the keeper.
//
// The engine's UnitStore. put() comes from the worker's thread and waits while too many bytes are
// on the shelf; the keeper takes batches from it and says when they are written. Reads look on the
// shelf first, then go to the store, which is safe from any thread. A unit that cannot be written
// is let go: it is a cache, the engine makes it again from the tokens.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "model/unit_store.h"
#include "storage/store.h"

namespace ringtide::actors {

class UnitShelf : public model::UnitStore {
 public:
  struct Limits {
    size_t shelf_bytes = 256u << 20;
    size_t batch_bytes = 8u << 20;
  };
  // `store` must outlive it. `wake` is called, from put(), when there is something to take and
  // nothing was said since the shelf was last empty.
  explicit UnitShelf(storage::Store& store) : UnitShelf(store, Limits{}) {}
  UnitShelf(storage::Store& store, Limits limits) : store_(store), limits_(limits) {}
  void on_wake(std::function<void()> wake);

  // -- the engine ----
  void put(uint64_t owner, model::SealedUnit unit) override;
  void read(std::span<model::PartRead> reads) override;
  std::vector<bool> contains(std::span<const model::UnitKey> keys) override;
  using UnitStore::contains;

  // -- the keeper, one thread ----
  // Writes the oldest units, a batch's worth. True if more wait.
  bool write_batch();
  // Drops what waits for a session, and whatever still comes: it was removed.
  void forget(uint64_t owner);
  // Takes its units again: the removal failed.
  void remember(uint64_t owner);
  // Lets a waiting put() go on without room: nobody will write any more.
  void abandon();

 private:
  struct Entry {
    model::SealedUnit unit;
    size_t bytes = 0;
    std::set<uint64_t> owners;
    uint64_t version = 0;  // tells it from another of the same key, before or after
  };
  // A batch on its way to the store; whatever comes of it, its units leave the shelf.
  class Batch;
  bool copy_from_shelf(model::PartRead& read);
  void drop(const model::UnitKey& key);

  storage::Store& store_;
  const Limits limits_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::condition_variable room_;
  std::function<void()> wake_;
  std::map<model::UnitKey, Entry> units_;
  std::deque<model::UnitKey> order_;  // oldest first; may name units that are gone
  std::set<uint64_t> forgotten_;
  size_t bytes_ = 0;
  uint64_t versions_ = 0;
  bool awake_ = false;
  bool abandoned_ = false;
  // Keeper's thread.
  bool failing_ = false;
};

}  // namespace ringtide::actors
