// Values of the rows that are not log records or payload. Each is sealed with its key
// (checksum.h): `pack` gives the stored value, `unpack` nothing if it is damaged.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "storage/store.h"

namespace ringtide::storage {

constexpr uint32_t kFormatVersion = 1;

// Bytes before a record in its session's log, so that the last row tells the size of all.
struct LogRow {
  uint64_t bytes_before = 0;
  std::string_view record;  // of `encode`; points into the value
};
std::string pack_log(std::string_view key, uint64_t bytes_before, std::string_view record);
std::optional<LogRow> unpack_log(std::string_view key, std::string_view value);

// What a log's records add up to, so that it need not be read for it.
struct TotalsRow {
  uint64_t records = 0;  // if the log has another number, the row is out of date
  uint64_t tokens = 0;
  uint64_t text_bytes = 0;
  void count(const LogRecord& record);
};
std::string pack_totals(std::string_view key, const TotalsRow& row);
std::optional<TotalsRow> unpack_totals(std::string_view key, std::string_view value);

std::string pack_number(std::string_view key, uint64_t number);
std::optional<uint64_t> unpack_number(std::string_view key, std::string_view value);

std::string pack_session(std::string_view key, const SessionEntry& entry);
std::optional<SessionEntry> unpack_session(std::string_view key, std::string_view value);

struct UnitRow {
  uint64_t id = 0;  // of the payload; a unit that is put again gets another
  uint32_t parts = 0;
  uint64_t bytes = 0;       // of all parts
  std::string fingerprint;  // digest, 16 bytes
};
std::string pack_unit(std::string_view key, const UnitRow& row);
std::optional<UnitRow> unpack_unit(std::string_view key, std::string_view value);

struct OwnedRow {
  ContentKey key;
  uint64_t bytes = 0;  // of the unit
};
std::string pack_owned(std::string_view key, const OwnedRow& row);
std::optional<OwnedRow> unpack_owned(std::string_view key, std::string_view value);

// What a part's checksum covers beside its bytes: where it is stored, and what it is.
std::string part_binding(const ContentKey& key, const UnitRow& row, uint32_t part);

}  // namespace ringtide::storage
