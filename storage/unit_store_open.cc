// Opening of the unit database: its options, which bound its memory, and the scan of its index.
#include <rocksdb/cache.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <filesystem>

#include "storage/block_pool.h"
#include "storage/keys.h"
#include "storage/unit_change.h"
#include "storage/unit_store.h"

namespace ringtide::storage {
namespace {

constexpr int kPayloadBuffers = 3;

DatabaseOptions database_options(const std::string& path, const StoreOptions& options) {
  // 86 % of the memory; the log has the rest.
  const size_t payload_buffer = options.memory_bytes / 5;
  const size_t index_buffer = options.memory_bytes / 64;
  const size_t cache = options.memory_bytes / 10, kept_blocks = options.memory_bytes / 10;
  DatabaseOptions made;
  made.create = options.create;
  made.read_only = options.read_only;
  made.db.max_background_jobs = 4;
  made.db.max_open_files = 1024;
  // Index and payload reach the disk together, whatever is left of the log by then.
  made.db.atomic_flush = true;
  made.db.use_direct_io_for_flush_and_compaction =
      !options.read_only && supports_direct_io(std::filesystem::path(path).parent_path());

  rocksdb::BlockBasedTableOptions table;
  table.block_cache =
      rocksdb::NewLRUCache(cache, -1, false, 0.5, std::make_shared<BlockPool>(kept_blocks));
  table.cache_index_and_filter_blocks = true;
  rocksdb::ColumnFamilyOptions index;
  index.write_buffer_size = index_buffer;
  index.max_write_buffer_number = kPayloadBuffers + 1;
  index.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));

  // Keys only grow, so files never overlap: compaction moves them between levels unread.
  rocksdb::ColumnFamilyOptions payload;
  payload.write_buffer_size = payload_buffer;
  payload.max_write_buffer_number = kPayloadBuffers;
  payload.arena_block_size = payload_buffer / 8;
  payload.target_file_size_base = 128 << 20;
  payload.max_bytes_for_level_base = uint64_t{4} << 30;
  payload.compression = rocksdb::kNoCompression;
  payload.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  made.families = {{rocksdb::kDefaultColumnFamilyName, index}, {"payload", payload}};
  return made;
}

}  // namespace

Result<std::unique_ptr<UnitStore>> UnitStore::open(const std::string& path,
                                                   const StoreOptions& options) {
  auto db = Database::open(path, database_options(path, options));
  if (!db.ok()) {
    if (db.status().code() != Code::Corrupt) return db.status();
    return Status(Code::Corrupt, db.status().message() +
                                     "; units can also be made again from the "
                                     "sessions' logs: move " +
                                     path + " away");
  }
  std::unique_ptr<UnitStore> units(new UnitStore(std::move(db.value()), options));
  if (Status status = units->load(); !status.ok()) return status;
  return units;
}

Status UnitStore::load() {
  int64_t units = 0, bytes = 0;
  std::vector<std::string> damaged;
  std::vector<uint64_t> live;
  Status status =
      db_->scan(kIndex, keys::all_units(), [&](std::string_view key, std::string_view value) {
        const auto row = unpack_unit(key, value);
        if (row) {
          ++units;
          bytes += static_cast<int64_t>(row->bytes);
          live.push_back(row->id);
          next_unit_ = std::max(next_unit_, row->id + 1);
        } else {
          damaged.emplace_back(key);
        }
        return true;
      });
  if (!status.ok()) return status;
  units_ = units;
  unit_bytes_ = bytes;
  auto used = db_->use();
  if (!used.ok()) return used.status();
  {
    const OpenDatabase& open = *used.value();
    const std::unique_ptr<rocksdb::Iterator> last(
        open.db->NewIterator(rocksdb::ReadOptions(), open.families[kPayload]));
    last->SeekToLast();
    if (last->Valid())
      if (const auto id = keys::parse_part_unit(view(last->key())))
        next_unit_ = std::max(next_unit_, *id + 1);
  }
  if (damaged.empty() || db_->read_only()) return {};
  // Which payload belonged to a damaged row is not known: it is what no other row names.
  std::sort(live.begin(), live.end());
  Change change(*this, std::move(used).value());
  for (const std::string& key : damaged) change.forget_unit(key);
  uint64_t expected = 1;
  for (const uint64_t id : live) {
    if (id > expected) change.erase_payload(expected, id - 1);
    expected = id + 1;
  }
  if (next_unit_ > expected) change.erase_payload(expected, next_unit_ - 1);
  return change.apply();
}

}  // namespace ringtide::storage
