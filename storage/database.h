// One RocksDB database: how it is opened, and what its statuses mean to people.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "storage/keys.h"
#include "storage/status.h"

namespace ringtide::storage {

struct DatabaseOptions {
  bool create = true;  // if it is missing
  bool read_only = false;
  rocksdb::DBOptions db;
  std::vector<rocksdb::ColumnFamilyDescriptor> families;  // the first is "default"
};

// One opening of a database.
struct OpenDatabase {
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> families;
  ~OpenDatabase();
};

// After a failed write, a full disk mostly, RocksDB 7.8 can be asked to go on, but writes to the
// same damaged file or waits for ever; so here it is closed and opened again, by the first write
// that finds room. Reading goes on all the time.
//
// Any thread may call anything.
class Database {
 public:
  static Result<std::unique_ptr<Database>> open(const std::string& path, DatabaseOptions options);
  // Closed in order, its rows are all in checksummed files and the log is empty.
  ~Database();

  // To be kept while anything of it is used, and no longer: as long as anyone has one, a database
  // that failed stays as it is.
  Result<std::shared_ptr<OpenDatabase>> use();
  bool read_only() const { return options_.read_only; }
  // How often it was opened again; what was not on disk before is lost.
  int64_t reopened() const { return reopened_; }

  // Writes all or nothing.
  Status write(const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch);
  // What was written without a sync is on disk, in all families alike.
  Status flush();
  // NotFound if there is no such key.
  Status get(size_t family, std::string_view key, std::string& value);
  // Calls `visit` with each key and value of the range, in order, until it returns false.
  Status scan(size_t family, const keys::Range& range,
              const std::function<bool(std::string_view, std::string_view)>& visit);

  Status translate(const rocksdb::Status& status, std::string_view doing) const;

 private:
  Database(std::string path, DatabaseOptions options)
      : path_(std::move(path)), options_(std::move(options)) {}
  Result<std::shared_ptr<OpenDatabase>> open_files(bool read_only) const;
  Status change(std::string_view doing,
                const std::function<rocksdb::Status(const OpenDatabase&)>& work);
  Status open_again();
  bool has_room(OpenDatabase& database) const;

  const std::string path_;
  const DatabaseOptions options_;
  std::atomic<int64_t> reopened_ = 0;

  std::mutex mutex_;
  std::shared_ptr<OpenDatabase> open_;  // nullptr: could not be opened again; guarded by mutex_
  Status failure_;                      // of the last write, if it stopped the database; likewise
};

// Whether files of this directory can be written around the page cache.
bool supports_direct_io(const std::string& directory);

inline rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace ringtide::storage
