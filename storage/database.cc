#include "storage/database.h"

#include <fcntl.h>
#include <rocksdb/listener.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

#include "storage/database_log.h"

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

// Left beside what is in memory, for the database's own small files.
constexpr uint64_t kRoomBytes = 8 << 20;

// A write or flush that fails stops the database. So does compaction, but that one can be tried
// again as it is.
class OwnRecovery : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason reason, rocksdb::Status,
                            bool* automatic) override {
    *automatic = reason == rocksdb::BackgroundErrorReason::kCompaction;
  }
};

}  // namespace

OpenDatabase::~OpenDatabase() {
  if (!db) return;
  for (rocksdb::ColumnFamilyHandle* family : families)
    static_cast<void>(db->DestroyColumnFamilyHandle(family));
  static_cast<void>(db->Close());
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, DatabaseOptions options) {
  if (!options.read_only) options.db.info_log = std::make_shared<DatabaseLog>(path + ".log");
  options.db.listeners.push_back(std::make_shared<OwnRecovery>());
  options.db.create_if_missing = options.create && !options.read_only;
  options.db.create_missing_column_families = options.db.create_if_missing;
  std::unique_ptr<Database> database(new Database(path, std::move(options)));
  auto opened = database->open_files(database->read_only());
  if (!opened.ok()) return opened.status();
  database->open_ = std::move(opened.value());
  return database;
}

Database::~Database() {
  if (!read_only() && failure_.ok() && open_)
    static_cast<void>(open_->db->Flush(rocksdb::FlushOptions(), open_->families));
}

Result<std::shared_ptr<OpenDatabase>> Database::open_files(bool read_only) const {
  const auto opened = std::make_shared<OpenDatabase>();
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      read_only ? rocksdb::DB::OpenForReadOnly(options_.db, path_, options_.families,
                                               &opened->families, &db)
                : rocksdb::DB::Open(options_.db, path_, options_.families, &opened->families, &db);
  opened->db.reset(db);
  if (status.ok()) return opened;
  if (held_elsewhere(status))
    return Status(Code::Busy, path_ + " is open in another process: stop it, or use another path");
  if (says(status, "Column families not opened"))
    return Status(Code::Newer, path_ + " has tables that this build does not know (" +
                                   status.ToString() + "): use a later build");
  if (status.IsInvalidArgument() && says(status, "does not exist"))
    return Status(Code::NotFound, "there is no store in " + path_);
  return translate(status, "open");
}

Result<std::shared_ptr<OpenDatabase>> Database::use() {
  const std::lock_guard lock(mutex_);
  if (!open_) return failure_;
  return open_;
}

bool Database::has_room(OpenDatabase& database) const {
  uint64_t needed = kRoomBytes;
  for (rocksdb::ColumnFamilyHandle* family : database.families) {
    uint64_t in_memory = 0;
    database.db->GetIntProperty(family, rocksdb::DB::Properties::kCurSizeAllMemTables, &in_memory);
    needed += in_memory;
  }
  struct statvfs disk {};
  return ::statvfs(path_.c_str(), &disk) != 0 ||
         uint64_t{disk.f_bavail} * uint64_t{disk.f_frsize} >= needed;
}

Status Database::open_again() {
  const std::lock_guard lock(mutex_);
  if (failure_.ok()) return {};
  if (open_ && (open_.use_count() > 1 || !has_room(*open_))) return failure_;
  open_.reset();
  auto opened = open_files(false);
  if (opened.ok()) {
    open_ = std::move(opened.value());
    failure_ = {};
    ++reopened_;
    return {};
  }
  failure_ = opened.status();
  if (auto reading = open_files(true); reading.ok()) open_ = std::move(reading.value());
  return failure_;
}

Status Database::change(std::string_view doing,
                        const std::function<rocksdb::Status(const OpenDatabase&)>& work) {
  if (read_only()) return {Code::ReadOnly, path_ + " was opened for reading only"};
  if (Status status = open_again(); !status.ok()) return status;
  auto used = use();
  if (!used.ok()) return used.status();
  const rocksdb::Status result = work(*used.value());
  const Status status = translate(result, doing);
  // An argument that the database does not take is no failure of it.
  if (!result.ok() && !result.IsInvalidArgument()) {
    const std::lock_guard lock(mutex_);
    failure_ = status;
  }
  return status;
}

Status Database::write(const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch) {
  return change("write to",
                [&](const OpenDatabase& open) { return open.db->Write(options, &batch); });
}

Status Database::flush() {
  return change("flush", [&](const OpenDatabase& open) {
    return open.db->Flush(rocksdb::FlushOptions(), open.families);
  });
}

Status Database::get(size_t family, std::string_view key, std::string& value) {
  auto used = use();
  if (!used.ok()) return used.status();
  const OpenDatabase& open = *used.value();
  return translate(open.db->Get(rocksdb::ReadOptions(), open.families[family], slice(key), &value),
                   "read from");
}

Status Database::scan(size_t family, const keys::Range& range,
                      const std::function<bool(std::string_view, std::string_view)>& visit) {
  auto used = use();
  if (!used.ok()) return used.status();
  const OpenDatabase& open = *used.value();
  const rocksdb::Slice last = slice(range.last);
  rocksdb::ReadOptions options;
  options.iterate_upper_bound = &last;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(open.db->NewIterator(options, open.families[family]));
  for (it->Seek(slice(range.first)); it->Valid(); it->Next())
    if (!visit(view(it->key()), view(it->value()))) return {};
  return translate(it->status(), "read from");
}

Status Database::translate(const rocksdb::Status& status, std::string_view doing) const {
  if (status.ok()) return {};
  // What a person can mend is said in their words; the rest as the database says it.
  const std::string cannot = "cannot " + std::string(doing) + " " + path_ + ": ";
  if (status.IsNoSpace())
    return {Code::NoSpace, cannot + "its disk is full; free some space and try again"};
  if (status.IsIOError() && not_writable(path_))
    return {Code::ReadOnly, cannot + "it may not be written to; give write access to it"};
  const std::string text = cannot + status.ToString();
  if (status.IsNotFound()) return {Code::NotFound, text};
  if (status.IsCorruption())
    return {Code::Corrupt, text + "; check the disk and restore the store from a backup"};
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
