// Sessions and their logs: the rows that must never be lost. Every write here is synced before it
// is acknowledged.
//
// Any thread may call anything. Writes of one session come from one caller at a time.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "storage/database.h"
#include "storage/rows.h"
#include "storage/store.h"

namespace ringtide::storage {

class SessionLog {
 public:
  // Refuses a database of a later format version; makes the first rows of an empty one.
  static Result<std::unique_ptr<SessionLog>> open(const std::string& path,
                                                  const StoreOptions& options);

  Result<SessionEntry> create(const std::string& name, const Opened& opened);
  Result<SessionEntry> find(const std::string& name);
  Result<SessionEntry> find(SessionId id);
  std::vector<SessionEntry> list();
  Status append(std::span<const LogWrite> writes);
  Status replay(SessionId id, const std::function<bool(uint64_t, LogRecord&&)>& visit);
  // Bytes, tokens and text of the log.
  Status size(SessionId id, SessionSize& size);

  // Removal in two durable steps, with room between them for what else belongs to the session.
  // After the first the session is gone for everybody; one that stays between them, because the
  // process died there, is in `doomed` at the next open.
  Status begin_remove(SessionId id);
  Status finish_remove(SessionId id);
  std::vector<SessionId> doomed();

  bool exists(SessionId id);
  int64_t sessions();
  int64_t syncs() const { return syncs_; }

 private:
  // Where the next record goes.
  struct End {
    uint64_t sequence = 0, bytes = 0;
    std::optional<TotalsRow> totals;  // nothing: to be counted by reading the log
  };
  struct Session {
    std::optional<SessionEntry> entry;  // nothing: its row is damaged
    std::optional<End> end;             // once it was asked for
    // A write failed, and nobody knows whether a later opening finds it: replay() stops before it,
    // the next write undoes it.
    bool unsure = false;
  };

  explicit SessionLog(std::unique_ptr<Database> db) : db_(std::move(db)) {}
  Status check_format();
  Status load_sessions();
  Status write_synced(rocksdb::WriteBatch& batch);
  Result<End> end_of(SessionId id);
  Result<End> find_end(SessionId id);
  // Adds to the batch what undoes a failed write of the session, if there was one.
  Status make_sure(SessionId id, const End& end, rocksdb::WriteBatch& batch);
  Status unknown(SessionId id) const;

  const std::unique_ptr<Database> db_;
  std::atomic<int64_t> syncs_ = 0;

  std::mutex changing_;    // create and remove, one at a time; taken before mutex_
  SessionId next_id_ = 1;  // guarded by changing_

  std::mutex mutex_;                        // never held during a write
  std::map<SessionId, Session> sessions_;   // guarded by mutex_
  std::map<std::string, SessionId> names_;  // guarded by mutex_
  std::vector<SessionId> doomed_;           // guarded by mutex_
};

}  // namespace ringtide::storage
