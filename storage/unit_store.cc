#include "storage/unit_store.h"

#include <rocksdb/convenience.h>

#include <cstring>
#include <set>

#include "storage/bytes.h"
#include "storage/checksum.h"
#include "storage/keys.h"
#include "storage/unit_change.h"

namespace ringtide::storage {
namespace {

// Owner rows that one change releases at most: bounds the size of its batch.
constexpr size_t kReleasedAtOnce = 4096;

// Whole files of payload that nobody owns are unlinked at once; the rest is left to compaction.
void unlink_files(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                  const std::set<uint64_t>& unit_ids) {
  for (auto it = unit_ids.begin(); it != unit_ids.end();) {
    const uint64_t first = *it;
    uint64_t last = first;
    while (++it != unit_ids.end() && *it == last + 1) last = *it;
    const keys::Range range = keys::parts_of(first, last);
    const rocksdb::Slice begin = range.first, end = range.last;
    // A failure costs room, nothing else: the rows are deleted already.
    static_cast<void>(rocksdb::DeleteFilesInRange(&db, family, &begin, &end, false));
  }
}

}  // namespace

UnitStore::UnitStore(std::unique_ptr<Database> db, const StoreOptions& options)
    : db_(std::move(db)),
      fingerprint_(fingerprint_digest(options.fingerprint)),
      pool_(options.read_threads) {}

Status UnitStore::put(std::span<const UnitWrite> units,
                      const std::function<bool(SessionId)>& exists) {
  const std::lock_guard lock(changing_);
  for (const UnitWrite& unit : units) {
    if (unit.number < 0)
      return {Code::Failed, "a unit has the negative number " + std::to_string(unit.number)};
    if (!exists(unit.owner))
      return {Code::NotFound, "there is no session " + std::to_string(unit.owner) +
                                  " to own unit " + std::to_string(unit.number)};
    if (Status status = put_one(unit); !status.ok()) return status;
  }
  return load_again();
}

Status UnitStore::put_one(const UnitWrite& unit) {
  const keys::Owner owner{.key = unit.key, .session = unit.owner, .number = unit.number};
  auto used = db_->use();
  if (!used.ok()) return used.status();
  // Room for all of it at once: a batch that grows copies what it has each time.
  constexpr size_t kRowBytes = 128;  // of a key and what stands beside a value
  size_t bytes = (unit.parts.size() + 3) * kRowBytes;
  for (const auto& part : unit.parts) bytes += part.size();
  Change change(*this, std::move(used).value(), bytes);
  const std::string owned_key = keys::owned(unit.owner, unit.number);
  std::string value;
  const Status before = db_->get(kIndex, owned_key, value);
  if (!before.ok() && before.code() != Code::NotFound) return before;
  if (before.ok()) {
    const auto row = unpack_owned(owned_key, value);
    if (row && row->key != unit.key)
      change.release({.key = row->key, .session = unit.owner, .number = unit.number});
  }
  std::optional<UnitRow> row = row_of(unit.key);
  if (row && (row->fingerprint != fingerprint_ || unit.replaces)) {
    change.erase(unit.key, *row);
    row.reset();
  }
  if (!row) {
    row = UnitRow{.id = next_unit_++,
                  .parts = static_cast<uint32_t>(unit.parts.size()),
                  .fingerprint = fingerprint_};
    for (const auto& part : unit.parts) row->bytes += part.size();
    change.add(unit.key, *row, unit.parts);
  }
  change.add_owner(owner, row->bytes);
  return change.apply();
}

std::optional<UnitRow> UnitStore::row_of(const ContentKey& key) {
  const std::string unit_key = keys::unit(key);
  std::string value;
  if (!db_->get(kIndex, unit_key, value).ok()) return std::nullopt;
  return unpack_unit(unit_key, value);
}

std::optional<UnitRow> UnitStore::usable(const ContentKey& key) {
  std::optional<UnitRow> row = row_of(key);
  if (row && row->fingerprint != fingerprint_) row.reset();
  return row;
}

bool UnitStore::contains(const ContentKey& key) { return usable(key).has_value(); }

void UnitStore::read(std::span<PartRead> reads) {
  struct Found {
    std::optional<UnitRow> row;
    std::atomic<bool> damaged = false;
  };
  std::map<ContentKey, Found> units;
  std::vector<Found*> unit_of(reads.size());
  for (size_t i = 0; i < reads.size(); ++i) {
    const auto [at, is_new] = units.try_emplace(reads[i].key);
    if (is_new) at->second.row = usable(reads[i].key);
    unit_of[i] = &at->second;
  }
  pool_.for_each(reads.size(), [&](size_t i) {
    PartRead& read = reads[i];
    read.outcome = unit_of[i]->row ? read_part(*unit_of[i]->row, read) : ReadOutcome::Absent;
    if (read.outcome == ReadOutcome::Corrupt) unit_of[i]->damaged = true;
  });
  for (auto& [key, unit] : units) {
    if (!unit.damaged) continue;
    // A unit that was removed or replaced meanwhile is not damaged, it is gone.
    const bool dropped = drop(key, unit.row->id);
    for (PartRead& read : reads) {
      if (read.key != key || read.outcome != ReadOutcome::Corrupt) continue;
      if (dropped)
        ++corrupt_parts_;
      else
        read.outcome = ReadOutcome::Absent;
    }
  }
}

ReadOutcome UnitStore::read_part(const UnitRow& row, const PartRead& read) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;        // memory for units is above the store
  options.verify_checksums = false;  // the part's own is verified
  auto used = db_->use();
  if (!used.ok()) return ReadOutcome::Absent;
  const OpenDatabase& open = *used.value();
  rocksdb::PinnableSlice value;
  const rocksdb::Status status =
      open.db->Get(options, open.families[kPayload], keys::part(row.id, read.part), &value);
  if (!status.ok())
    return status.IsNotFound() || status.IsCorruption() ? ReadOutcome::Corrupt
                                                        : ReadOutcome::Absent;
  if (value.size() != read.into.size() + kChecksumBytes) return ReadOutcome::Corrupt;
  // What is verified is what the caller gets: the copy.
  if (!read.into.empty()) std::memcpy(read.into.data(), value.data(), read.into.size());
  uint64_t stored = 0;
  std::memcpy(&stored, value.data() + read.into.size(), sizeof stored);
  const bool same = stored == checksum(part_binding(read.key, row, read.part), as_text(read.into));
  return same ? ReadOutcome::Ok : ReadOutcome::Corrupt;
}

bool UnitStore::drop(const ContentKey& key, uint64_t id) {
  const std::lock_guard lock(changing_);
  const std::optional<UnitRow> row = row_of(key);
  if (!row || row->id != id) return false;
  if (db_->read_only()) return true;
  auto used = db_->use();
  if (!used.ok()) return false;
  Change change(*this, std::move(used).value());
  change.erase(key, *row);
  // If it cannot be written the unit is found damaged again at its next reading.
  static_cast<void>(change.apply());
  return true;
}

Status UnitStore::flush() {
  const Status status = db_->flush();
  const std::lock_guard lock(changing_);
  if (Status loaded = load_again(); !loaded.ok()) return loaded;
  return status;
}

Status UnitStore::load_again() {
  if (db_->reopened() == loaded_) return {};
  loaded_ = db_->reopened();
  return load();
}

Status UnitStore::remove_owner(SessionId id) {
  const std::lock_guard lock(changing_);
  // Deletions get files of their own: in one file with new payload they would make it span all
  // older ids, and compaction would rewrite what lies between.
  if (Status status = db_->flush(); !status.ok()) return status;
  std::set<uint64_t> erased;
  while (true) {
    auto used = db_->use();
    if (!used.ok()) return used.status();
    Change change(*this, std::move(used).value());
    size_t released = 0;
    Status read =
        db_->scan(kIndex, keys::owned_by(id), [&](std::string_view key, std::string_view value) {
          const auto number = keys::parse_owned_number(key);
          const auto row = unpack_owned(key, value);
          if (number && row)
            change.release({.key = row->key, .session = id, .number = *number});
          else
            change.forget(key);
          return ++released < kReleasedAtOnce;
        });
    if (!read.ok()) return read;
    if (released == 0) break;
    if (Status status = change.apply(); !status.ok()) return status;
    erased.insert(change.erased().begin(), change.erased().end());
  }
  if (Status status = db_->flush(); !status.ok()) return status;
  if (auto used = db_->use(); used.ok())
    unlink_files(*used.value()->db, used.value()->families[kPayload], erased);
  return {};
}

Status UnitStore::size(SessionId id, SessionSize& size) {
  return db_->scan(kIndex, keys::owned_by(id), [&](std::string_view key, std::string_view value) {
    if (const auto row = unpack_owned(key, value)) {
      if (keys::parse_owned_number(key).value_or(0) < kEntryNumbers) ++size.units;
      size.unit_bytes += static_cast<int64_t>(row->bytes);
    }
    return true;
  });
}

void UnitStore::stats(StoreStats& stats) const {
  stats.units = units_;
  stats.unit_bytes = unit_bytes_;
  stats.corrupt_parts = corrupt_parts_;
}

}  // namespace ringtide::storage
