#include "storage/store.h"

#include <ctime>
#include <filesystem>
#include <system_error>

#include "storage/session_log.h"
#include "storage/unit_store.h"

namespace ringtide::storage {
namespace {

// Two databases, so that units, which may fill a disk or stall, never delay or stop the log.
class RocksStore final : public Store {
 public:
  RocksStore(std::unique_ptr<SessionLog> log, std::unique_ptr<UnitStore> units,
             std::string set_aside)
      : log_(std::move(log)), units_(std::move(units)), set_aside_(std::move(set_aside)) {}

  Result<SessionEntry> create(const std::string& name, const Opened& opened) override {
    return log_->create(name, opened);
  }
  Result<SessionEntry> find(const std::string& name) override { return log_->find(name); }
  Result<SessionEntry> find(SessionId id) override { return log_->find(id); }
  Result<std::vector<SessionEntry>> list() override { return log_->list(); }

  Status remove(SessionId id) override {
    if (Status status = log_->begin_remove(id); !status.ok()) return status;
    return finish_remove(id);
  }
  // Of sessions whose removal a crash cut short.
  Status finish_removals() {
    for (const SessionId id : log_->doomed())
      if (Status status = finish_remove(id); !status.ok()) return status;
    return {};
  }

  Result<SessionSize> size(SessionId id) override {
    SessionSize size;
    if (Status status = log_->size(id, size); !status.ok()) return status;
    if (Status status = units_->size(id, size); !status.ok()) return status;
    return size;
  }

  Status append(std::span<const LogWrite> writes) override { return log_->append(writes); }
  Status replay(SessionId id, const std::function<bool(uint64_t, LogRecord&&)>& visit) override {
    return log_->replay(id, visit);
  }

  Status put(std::span<const UnitWrite> units) override {
    return units_->put(units, [this](SessionId id) { return log_->exists(id); });
  }
  bool contains(const ContentKey& key) override { return units_->contains(key); }
  void read(std::span<PartRead> reads) override { units_->read(reads); }
  Status flush() override { return units_->flush(); }

  StoreStats stats() override {
    StoreStats stats;
    stats.sessions = log_->sessions();
    stats.syncs = log_->syncs();
    stats.set_aside = set_aside_;
    units_->stats(stats);
    return stats;
  }

 private:
  Status finish_remove(SessionId id) {
    if (Status status = units_->remove_owner(id); !status.ok()) return status;
    return log_->finish_remove(id);
  }

  const std::unique_ptr<SessionLog> log_;
  const std::unique_ptr<UnitStore> units_;
  const std::string set_aside_;
};

Status make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return {};
  Code code = Code::Failed;
  if (error == std::errc::no_space_on_device) code = Code::NoSpace;
  if (error == std::errc::read_only_file_system || error == std::errc::permission_denied)
    code = Code::ReadOnly;
  return {code, "cannot make the directory " + path + ": " + error.message()};
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::string& path, const StoreOptions& options) {
  const std::filesystem::path root(path);
  if (!options.create || options.read_only) {
    std::error_code error;
    if (!std::filesystem::exists(root / "sessions", error))
      return Status(Code::NotFound, "there is no store in " + path);
  } else if (Status status = make_directory(path); !status.ok()) {
    return status;
  }
  auto log = SessionLog::open(root / "sessions", options);
  if (!log.ok()) return log.status();
  auto units = UnitStore::open(root / "units", options);
  std::string set_aside;
  if (units.status().code() == Code::Corrupt && !options.read_only) {
    // Units follow from the log: a damaged database of them is kept for a look, and begun anew.
    set_aside = (root / ("units.damaged-" + std::to_string(std::time(nullptr)))).string();
    std::error_code error;
    std::filesystem::rename(root / "units", set_aside, error);
    if (!error) units = UnitStore::open(root / "units", options);
  }
  if (!units.ok()) return units.status();
  auto store = std::make_unique<RocksStore>(std::move(log.value()), std::move(units.value()),
                                            std::move(set_aside));
  if (!options.read_only)
    if (Status status = store->finish_removals(); !status.ok()) return status;
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace ringtide::storage
