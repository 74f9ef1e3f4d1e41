// Opening of the session database: its options, its format version, the sessions in it.
#include <rocksdb/cache.h>
#include <rocksdb/table.h>

#include "storage/keys.h"
#include "storage/rows.h"
#include "storage/session_log.h"

namespace ringtide::storage {
namespace {

DatabaseOptions database_options(const StoreOptions& options) {
  DatabaseOptions made;
  made.create = options.create;
  made.read_only = options.read_only;
  made.db.max_background_jobs = 2;
  made.db.wal_recovery_mode = options.accept_loss
                                  ? rocksdb::WALRecoveryMode::kPointInTimeRecovery
                                  : rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  made.db.max_open_files = 256;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.memory_bytes / 40);
  table.block_size = 16 << 10;
  table.cache_index_and_filter_blocks = true;
  rocksdb::ColumnFamilyOptions rows;
  rows.write_buffer_size = options.memory_bytes / 20;
  rows.max_write_buffer_number = 2;
  rows.compression = rocksdb::kLZ4Compression;
  rows.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  made.families = {{rocksdb::kDefaultColumnFamilyName, rows}};
  return made;
}

Status damaged(const std::string& what) {
  return {Code::Corrupt, what + " does not match its checksum: restore the store from a backup"};
}

// The same, of the database at `path` if it does not say so.
Status name(const std::string& path, const Status& status) {
  if (status.message().find(path) != std::string::npos) return status;
  return {status.code(), path + ": " + status.message()};
}

}  // namespace

Result<std::unique_ptr<SessionLog>> SessionLog::open(const std::string& path,
                                                     const StoreOptions& options) {
  auto db = Database::open(path, database_options(options));
  if (db.status().code() == Code::Corrupt)
    return Status(Code::Corrupt,
                  db.status().message() +
                      ": text that was acknowledged after the damage cannot be read."
                      " Copy the folder, then open it with serve --accept-loss to keep"
                      " what comes before");
  if (!db.ok()) return db.status();
  std::unique_ptr<SessionLog> log(new SessionLog(std::move(db.value())));
  if (Status status = log->check_format(); !status.ok()) return name(path, status);
  if (Status status = log->load_sessions(); !status.ok()) return status;
  return log;
}

Status SessionLog::check_format() {
  const std::string format_key = keys::format(), next_key = keys::next_session();
  std::string value;
  Status status = db_->get(0, format_key, value);
  if (status.code() == Code::NotFound) {
    bool empty = true;
    status = db_->scan(0, {"", "\xff"}, [&](auto, auto) { return empty = false; });
    if (!status.ok()) return status;
    if (!empty) return {Code::Corrupt, "the store has rows but no format version"};
    if (db_->read_only()) return {Code::NotFound, "the store is empty"};
    rocksdb::WriteBatch batch;
    rocksdb::Status built = batch.Put(format_key, pack_number(format_key, kFormatVersion));
    if (built.ok()) built = batch.Put(next_key, pack_number(next_key, next_id_));
    return built.ok() ? write_synced(batch) : db_->translate(built, "write to");
  }
  if (!status.ok()) return status;
  const auto version = unpack_number(format_key, value);
  if (!version) return damaged("the format version");
  if (*version > kFormatVersion)
    return {Code::Newer, "the store has format version " + std::to_string(*version) +
                             ", this build reads up to " + std::to_string(kFormatVersion) +
                             ": use a later build"};
  if (*version == 0) return {Code::Corrupt, "the store has format version 0, which never was"};
  if (status = db_->get(0, next_key, value); !status.ok()) return status;
  const auto next = unpack_number(next_key, value);
  if (!next) return damaged("the next session's id");
  next_id_ = *next;
  return {};
}

Status SessionLog::load_sessions() {
  Status status =
      db_->scan(0, keys::all_sessions(), [&](std::string_view key, std::string_view value) {
        const auto id = keys::parse_session(key);
        if (!id) return true;
        Session& session = sessions_[*id];
        session.entry = unpack_session(key, value);
        if (session.entry) names_[session.entry->name] = *id;
        return true;
      });
  if (!status.ok()) return status;
  return db_->scan(0, keys::all_doomed(), [&](std::string_view key, std::string_view) {
    if (const auto id = keys::parse_session(key)) doomed_.push_back(*id);
    return true;
  });
}

}  // namespace ringtide::storage
