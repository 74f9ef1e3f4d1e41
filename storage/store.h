// The database of one daemon: session logs, sealed units, their index. RocksDB behind it; bytes on
// disk in FORMAT.md.
//
// Any thread may call anything. Writes of one session come from one caller at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "storage/records.h"
#include "storage/status.h"

namespace ringtide::storage {

using SessionId = uint64_t;  // never reused in a store

struct ContentKey {
  uint64_t hi = 0, lo = 0;
  auto operator<=>(const ContentKey&) const = default;
};

struct SessionEntry {
  SessionId id = 0;
  std::string name;
  int64_t created_ms = 0;  // Unix time
};

struct LogWrite {
  SessionId session = 0;
  uint64_t sequence = 0;  // of the record in its session, from 0, without gaps
  LogRecord record;
};

// Entries of an index, and groups of them, are kept like units, under numbers from here on: they
// count as bytes of their session, not as units.
constexpr int64_t kEntryNumbers = int64_t{1} << 61, kGroupNumbers = int64_t{1} << 62;

struct UnitWrite {
  SessionId owner = 0;
  ContentKey key;
  int64_t number = 0;  // place in the owner's sequence; of an entry or group so much more
  std::vector<std::span<const std::byte>> parts;
  bool replaces = false;  // a unit that is there under this key goes, for all who own it
};

enum class ReadOutcome : uint8_t { Ok, Absent, Corrupt };

struct PartRead {
  ContentKey key;
  uint32_t part = 0;
  std::span<std::byte> into;  // Corrupt if the stored part has another size
  ReadOutcome outcome = ReadOutcome::Absent;
};

struct SessionSize {
  int64_t units = 0;
  int64_t unit_bytes = 0;  // entries and groups included
  int64_t log_bytes = 0;
  int64_t tokens = 0;      // in the log's records
  int64_t text_bytes = 0;  // appended
};

struct StoreStats {
  int64_t sessions = 0;
  int64_t units = 0;
  int64_t unit_bytes = 0;
  int64_t corrupt_parts = 0;  // since open
  int64_t syncs = 0;          // since open
  // Where the open moved a database of units too damaged to be read; empty: nowhere.
  std::string set_aside;
};

struct StoreOptions {
  bool create = true;
  bool read_only = false;
  // Units belong to a model and layout: units under another fingerprint are never returned.
  std::string fingerprint;
  int read_threads = 2;
  // Most memory of its buffers and caches: FORMAT.md tells the shares.
  size_t memory_bytes = size_t{320} << 20;
  // A session log that is damaged anywhere but at its very end, where a power cut may leave half a
  // write, is refused as Corrupt; with this it is opened as far as it can be read.
  bool accept_loss = false;
};

class Store {
 public:
  // Busy: another process has it open. Newer: a later format. ReadOnly / NoSpace / Failed as found.
  static Result<std::unique_ptr<Store>> open(const std::string& path, const StoreOptions& options);
  virtual ~Store() = default;

  // -- sessions ----
  // The entry and the first record become durable together. Exists: the name is taken.
  virtual Result<SessionEntry> create(const std::string& name, const Opened& opened) = 0;
  virtual Result<SessionEntry> find(const std::string& name) = 0;
  virtual Result<SessionEntry> find(SessionId id) = 0;
  virtual Result<std::vector<SessionEntry>> list() = 0;
  // Removes the session, its log, and the units no other session owns.
  virtual Status remove(SessionId id) = 0;
  // Does not read the log, but where its totals are not known: of a session that an earlier build
  // wrote, the first time. Corrupt: the log's end is damaged.
  virtual Result<SessionSize> size(SessionId id) = 0;

  // -- log ----
  // All of them become durable, or none: one group, one sync. On return they are on disk. NoSpace:
  // refused until there is room again; reading goes on. A group that failed is undone by the next
  // append to its session; after a restart without one it is there whole or not at all.
  virtual Status append(std::span<const LogWrite> writes) = 0;
  // Calls `visit` with each record from sequence 0 on. Stops at the first that is corrupt or
  // missing and says so; `visit` returning false stops without an error.
  virtual Status replay(SessionId id, const std::function<bool(uint64_t, LogRecord&&)>& visit) = 0;

  // -- units ----
  // Written without sync: survives the process, not a power cut. The index entry becomes visible
  // only after the payload can be read back.
  // A key that exists gains an owner only, unless it is replaced.
  virtual Status put(std::span<const UnitWrite> units) = 0;
  virtual bool contains(const ContentKey& key) = 0;
  // Verifies each part's checksum. A corrupt unit is counted and dropped from the index.
  virtual void read(std::span<PartRead> reads) = 0;
  // Everything put so far is on disk when this returns Ok. After NoSpace, units that were not on
  // disk may be absent.
  virtual Status flush() = 0;

  virtual StoreStats stats() = 0;
};

}  // namespace ringtide::storage
