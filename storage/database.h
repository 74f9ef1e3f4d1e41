// One RocksDB database: how it is opened, and what its statuses mean to people.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <functional>
#include <memory>
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

// Any thread may call anything.
class Database {
 public:
  static Result<std::unique_ptr<Database>> open(const std::string& path, DatabaseOptions options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  rocksdb::DB& db() { return *db_; }
  rocksdb::ColumnFamilyHandle* family(size_t i) { return families_[i]; }
  bool read_only() const { return read_only_; }

  // Writes all or nothing. After a failed write (a full disk) the database refuses more; each call
  // tries first whether it can go on again.
  Status write(const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch);
  // What was written without a log is on disk, in all families alike.
  Status flush();
  // NotFound if there is no such key.
  Status get(size_t family, std::string_view key, std::string& value);
  // Calls `visit` with each key and value of the range, in order, until it returns false.
  Status scan(size_t family, const keys::Range& range,
              const std::function<bool(std::string_view, std::string_view)>& visit);

  Status translate(const rocksdb::Status& status, std::string_view doing) const;

 private:
  Database(std::string path, bool read_only) : path_(std::move(path)), read_only_(read_only) {}
  Status refuse_write() const;

  const std::string path_;
  const bool read_only_;
  std::unique_ptr<rocksdb::DB> db_;                     // constant after open
  std::vector<rocksdb::ColumnFamilyHandle*> families_;  // constant after open
};

// Whether files of this directory can be written around the page cache.
bool supports_direct_io(const std::string& directory);

inline rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

}  // namespace ringtide::storage
