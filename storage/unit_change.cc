#include "storage/unit_change.h"

#include "storage/bytes.h"
#include "storage/checksum.h"

namespace ringtide::storage {

UnitStore::Change::Change(UnitStore& store, std::shared_ptr<OpenDatabase> used, size_t bytes)
    : store_(store), used_(std::move(used)), batch_(bytes) {}

void UnitStore::Change::check(const rocksdb::Status& status) {
  if (!status.ok()) check(store_.db_->translate(status, "change"));
}

void UnitStore::Change::check(const Status& status) {
  if (status_.ok() && !status.ok()) status_ = status;
}

void UnitStore::Change::add(const ContentKey& key, const UnitRow& row,
                            std::span<const std::span<const std::byte>> parts) {
  for (uint32_t i = 0; i < parts.size(); ++i) {
    const std::string_view bytes = as_text(parts[i]);
    const uint64_t sum = checksum(part_binding(key, row, i), bytes);
    const std::string part_key = keys::part(row.id, i);
    const rocksdb::Slice stored_key = part_key;
    // The caller's bytes go into the batch without a copy between.
    const rocksdb::Slice value[] = {slice(bytes),
                                    {reinterpret_cast<const char*>(&sum), sizeof sum}};
    check(batch_.Put(used_->families[kPayload], rocksdb::SliceParts(&stored_key, 1),
                     rocksdb::SliceParts(value, 2)));
  }
  const std::string unit_key = keys::unit(key);
  check(batch_.Put(used_->families[kIndex], unit_key, pack_unit(unit_key, row)));
  ++units_;
  bytes_ += static_cast<int64_t>(row.bytes);
}

void UnitStore::Change::add_owner(const keys::Owner& owner, uint64_t bytes) {
  const std::string owner_key = keys::owner(owner);
  const std::string owned_key = keys::owned(owner.session, owner.number);
  rocksdb::ColumnFamilyHandle* index = used_->families[kIndex];
  check(batch_.Put(index, owner_key, seal(owner_key, "")));
  check(batch_.Put(index, owned_key, pack_owned(owned_key, {.key = owner.key, .bytes = bytes})));
}

void UnitStore::Change::release(const keys::Owner& owner) {
  forget(keys::owner(owner));
  forget(keys::owned(owner.session, owner.number));
  released_.insert(owner);
  bool owned = false;
  check(store_.db_->scan(kIndex, keys::owners_of(owner.key), [&](std::string_view key, auto) {
    const auto other = keys::parse_owner(key);
    owned = other && !released_.contains(*other);
    return !owned;
  }));
  if (owned) return;
  const auto row = store_.row_of(owner.key);
  if (!row) {
    forget(keys::unit(owner.key));
  } else if (!erased_.contains(row->id)) {
    erase(owner.key, *row);
  }
}

void UnitStore::Change::erase(const ContentKey& key, const UnitRow& row) {
  erase_owners(key);
  forget(keys::unit(key));
  erase_payload(row.id, row.id);
  erased_.insert(row.id);
  --units_;
  bytes_ -= static_cast<int64_t>(row.bytes);
}

void UnitStore::Change::erase_owners(const ContentKey& key) {
  check(store_.db_->scan(kIndex, keys::owners_of(key), [&](std::string_view owner_key, auto) {
    forget(owner_key);
    if (const auto owner = keys::parse_owner(owner_key))
      forget(keys::owned(owner->session, owner->number));
    return true;
  }));
}

void UnitStore::Change::erase_payload(uint64_t first, uint64_t last) {
  const keys::Range parts = keys::parts_of(first, last);
  check(batch_.DeleteRange(used_->families[kPayload], parts.first, parts.last));
}

void UnitStore::Change::forget(std::string_view index_key) {
  check(batch_.Delete(used_->families[kIndex], slice(index_key)));
}

void UnitStore::Change::forget_unit(std::string_view unit_key) {
  if (const auto key = keys::parse_unit(unit_key)) erase_owners(*key);
  forget(unit_key);
}

Status UnitStore::Change::apply() {
  if (!status_.ok()) return status_;
  used_.reset();
  // Not synced: in the system's hands it survives this process, and most of the log is deleted
  // before the system writes it to the disk.
  if (Status status = store_.db_->write({}, batch_); !status.ok()) return status;
  store_.units_ += units_;
  store_.unit_bytes_ += bytes_;
  return {};
}

}  // namespace ringtide::storage
