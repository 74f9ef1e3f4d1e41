#include "storage/database.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace ringtide::storage {
namespace {

bool says(const rocksdb::Status& status, std::string_view text) {
  return status.ToString().find(text) != std::string::npos;
}

bool held_elsewhere(const rocksdb::Status& status) {
  return status.IsIOError() &&
         (says(status, "While lock file") || says(status, "lock hold by current process"));
}

// The database reports most system errors as text; these two are asked of the system.
bool not_writable(const std::string& path) {
  return ::access(path.c_str(), W_OK) != 0 && (errno == EROFS || errno == EACCES);
}

// Failures after which a database refuses writes until told to go on.
bool may_be_over(const rocksdb::Status& status) {
  return status.IsIOError() || status.IsNoSpace() || status.IsIncomplete() || status.IsBusy() ||
         status.IsShutdownInProgress();
}

}  // namespace

Result<std::unique_ptr<Database>> Database::open(const std::string& path, DatabaseOptions options) {
  std::unique_ptr<Database> database(new Database(path, options.read_only));
  options.db.create_if_missing = options.create && !options.read_only;
  options.db.create_missing_column_families = options.db.create_if_missing;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      options.read_only
          ? rocksdb::DB::OpenForReadOnly(options.db, path, options.families, &database->families_,
                                         &db)
          : rocksdb::DB::Open(options.db, path, options.families, &database->families_, &db);
  database->db_.reset(db);
  if (status.ok()) return database;
  if (held_elsewhere(status))
    return Status(Code::Busy, path + " is open in another process: stop it, or use another path (" +
                                  status.ToString() + ")");
  if (says(status, "Column families not opened"))
    return Status(Code::Newer, path + " has tables that this build does not know (" +
                                   status.ToString() + "): use a later build");
  if (status.IsInvalidArgument() && says(status, "does not exist"))
    return Status(Code::NotFound, "there is no store in " + path);
  return database->translate(status, "open");
}

Database::~Database() {
  if (!db_) return;
  for (rocksdb::ColumnFamilyHandle* family : families_)
    static_cast<void>(db_->DestroyColumnFamilyHandle(family));
  static_cast<void>(db_->Close());
}

Status Database::refuse_write() const {
  return {Code::ReadOnly, path_ + " was opened for reading only"};
}

Status Database::write(const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch) {
  if (read_only_) return refuse_write();
  rocksdb::Status status = db_->Write(options, &batch);
  if (may_be_over(status) && db_->Resume().ok()) status = db_->Write(options, &batch);
  return translate(status, "write to");
}

Status Database::flush() {
  if (read_only_) return refuse_write();
  rocksdb::Status status = db_->Flush(rocksdb::FlushOptions(), families_);
  if (may_be_over(status) && db_->Resume().ok())
    status = db_->Flush(rocksdb::FlushOptions(), families_);
  return translate(status, "flush");
}

Status Database::get(size_t family, std::string_view key, std::string& value) {
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), families_[family], slice(key), &value);
  return translate(status, "read from");
}

Status Database::scan(size_t family, const keys::Range& range,
                      const std::function<bool(std::string_view, std::string_view)>& visit) {
  const rocksdb::Slice last = slice(range.last);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &last;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, families_[family]));
  for (it->Seek(slice(range.first)); it->Valid(); it->Next())
    if (!visit(view(it->key()), view(it->value()))) return {};
  return translate(it->status(), "read from");
}

Status Database::translate(const rocksdb::Status& status, std::string_view doing) const {
  if (status.ok()) return {};
  const std::string text = "cannot " + std::string(doing) + " " + path_ + ": " + status.ToString();
  if (status.IsNotFound()) return {Code::NotFound, text};
  if (status.IsNoSpace()) return {Code::NoSpace, text + "; free space on this disk and try again"};
  if (status.IsCorruption())
    return {Code::Corrupt, text + "; check the disk and restore the store from a backup"};
  if (status.IsIOError() && not_writable(path_))
    return {Code::ReadOnly, text + "; make it writable or open it for reading only"};
  return {Code::Failed, text};
}

bool supports_direct_io(const std::string& directory) {
  const std::string path = directory + "/direct_io_probe";
  const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
  if (file >= 0) ::close(file);
  ::unlink(path.c_str());
  return file >= 0;
}

}  // namespace ringtide::storage
