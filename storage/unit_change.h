// One change of unit rows: what it puts and deletes becomes visible together. Made and applied
// under the lock of its unit store.
#pragma once

#include <set>
#include <span>
#include <string_view>

#include "storage/unit_store.h"

namespace ringtide::storage {

class UnitStore::Change {
 public:
  // `used` names the tables until `apply`. `bytes`: about how much it will put.
  Change(UnitStore& store, std::shared_ptr<OpenDatabase> used, size_t bytes = 0);

  // Payload and index row of a new unit.
  void add(const ContentKey& key, const UnitRow& row,
           std::span<const std::span<const std::byte>> parts);
  void add_owner(const keys::Owner& owner, uint64_t bytes);
  // The owner's two rows, and the unit if nobody else owns it.
  void release(const keys::Owner& owner);
  // Payload, index row and all owners' rows.
  void erase(const ContentKey& key, const UnitRow& row);

  // A row of the index that no longer says what it is; a unit's with the rows of its owners.
  void forget(std::string_view index_key);
  void forget_unit(std::string_view unit_key);
  // Payload of the units with these ids, both included.
  void erase_payload(uint64_t first, uint64_t last);

  // After the first row that could not be read or made this says why and writes nothing.
  Status apply();
  const std::set<uint64_t>& erased() const { return erased_; }

 private:
  void erase_owners(const ContentKey& key);
  void check(const rocksdb::Status& status);
  void check(const Status& status);

  UnitStore& store_;
  std::shared_ptr<OpenDatabase> used_;
  rocksdb::WriteBatch batch_;
  Status status_;
  std::set<keys::Owner, bool (*)(const keys::Owner&, const keys::Owner&)> released_{
      [](const keys::Owner& a, const keys::Owner& b) { return keys::owner(a) < keys::owner(b); }};
  std::set<uint64_t> erased_;  // ids
  int64_t units_ = 0, bytes_ = 0;
};

}  // namespace ringtide::storage
