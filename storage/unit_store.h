// Sealed units: payload under sequential ids, an index from content key to id, and who owns what.
//
// Index and payload of a unit are written together and reach the disk together or not at all
// (atomic flush), behind a log that is not synced: what was put survives a process that is killed;
// a power cut loses whole units, the latest, which are made again from the log of their session.
// Rows are always whole: every owner row has its unit, every unit its payload, unless the disk
// changed it. FORMAT.md says why ids in sequence.
//
// Any thread may call anything.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "storage/database.h"
#include "storage/read_pool.h"
#include "storage/rows.h"
#include "storage/store.h"

namespace ringtide::storage {

class UnitStore {
 public:
  static Result<std::unique_ptr<UnitStore>> open(const std::string& path,
                                                 const StoreOptions& options);

  // `exists` is asked under the lock that `remove_owner` takes: a session that begins to be removed
  // before that call leaves no units behind.
  Status put(std::span<const UnitWrite> units, const std::function<bool(SessionId)>& exists);
  bool contains(const ContentKey& key);
  void read(std::span<PartRead> reads);
  Status flush();
  // The session owns nothing; units without any owner are gone, on disk too.
  Status remove_owner(SessionId id);

  // Units owned by a session, and their bytes.
  Status size(SessionId id, SessionSize& size);
  void stats(StoreStats& stats) const;

 private:
  enum Family : size_t { kIndex, kPayload };
  class Change;  // one batch of rows, unit_change.h

  UnitStore(std::unique_ptr<Database> db, const StoreOptions& options);
  // Counts what is there, finds the next id, and clears what damaged index rows leave behind.
  Status load();
  Status load_again();  // if the database was opened again

  Status put_one(const UnitWrite& unit);
  // The unit's row, if it is of the open fingerprint.
  std::optional<UnitRow> usable(const ContentKey& key);
  // Whatever row there is.
  std::optional<UnitRow> row_of(const ContentKey& key);
  ReadOutcome read_part(const UnitRow& row, const PartRead& read);
  // Forgets the unit, if it still has this id; false if it has not.
  bool drop(const ContentKey& key, uint64_t id);

  const std::unique_ptr<Database> db_;
  const std::string fingerprint_;  // digest
  ReadPool pool_;

  std::mutex changing_;     // every change of rows
  uint64_t next_unit_ = 1;  // guarded by changing_
  int64_t loaded_ = 0;      // database openings that `load` has seen; guarded by changing_
  std::atomic<int64_t> units_ = 0, unit_bytes_ = 0, corrupt_parts_ = 0;
};

}  // namespace ringtide::storage
