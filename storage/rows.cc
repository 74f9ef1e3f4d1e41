#include "storage/rows.h"

#include <type_traits>

#include "storage/bytes.h"
#include "storage/checksum.h"
#include "storage/keys.h"

namespace ringtide::storage {
namespace {

constexpr size_t kDigestBytes = 16;

template <class... T>
std::string packed(std::string_view key, T... numbers) {
  std::string body;
  ByteWriter out(body);
  (out.number(numbers), ...);
  return seal(key, std::move(body));
}

}  // namespace

std::string pack_log(std::string_view key, uint64_t bytes_before, std::string_view record) {
  std::string body;
  body.reserve(sizeof bytes_before + record.size() + kChecksumBytes);
  ByteWriter(body).number(bytes_before);
  body.append(record);
  return seal(key, std::move(body));
}

std::optional<LogRow> unpack_log(std::string_view key, std::string_view value) {
  const auto body = unseal(key, value);
  if (!body || body->size() < sizeof(uint64_t)) return std::nullopt;
  ByteReader in(*body);
  return LogRow{.bytes_before = in.number<uint64_t>(), .record = body->substr(sizeof(uint64_t))};
}

void TotalsRow::count(const LogRecord& record) {
  ++records;
  std::visit(
      [this]<class T>(const T& r) {
        if constexpr (requires { r.tokens; }) tokens += r.tokens.size();
        if constexpr (std::is_same_v<T, Appended>) text_bytes += r.text.size();
      },
      record);
}

std::string pack_totals(std::string_view key, const TotalsRow& row) {
  return packed(key, row.records, row.tokens, row.text_bytes);
}

std::optional<TotalsRow> unpack_totals(std::string_view key, std::string_view value) {
  const auto body = unseal(key, value);
  if (!body) return std::nullopt;
  ByteReader in(*body);
  TotalsRow row;
  row.records = in.number<uint64_t>();
  row.tokens = in.number<uint64_t>();
  row.text_bytes = in.number<uint64_t>();
  if (!in.complete()) return std::nullopt;
  return row;
}

std::string pack_number(std::string_view key, uint64_t number) { return packed(key, number); }

std::optional<uint64_t> unpack_number(std::string_view key, std::string_view value) {
  const auto body = unseal(key, value);
  if (!body) return std::nullopt;
  ByteReader in(*body);
  const auto number = in.number<uint64_t>();
  if (!in.complete()) return std::nullopt;
  return number;
}

std::string pack_session(std::string_view key, const SessionEntry& entry) {
  std::string body;
  ByteWriter out(body);
  out.number(entry.created_ms);
  out.text(entry.name);
  return seal(key, std::move(body));
}

std::optional<SessionEntry> unpack_session(std::string_view key, std::string_view value) {
  const auto id = keys::parse_session(key);
  const auto body = unseal(key, value);
  if (!id || !body) return std::nullopt;
  ByteReader in(*body);
  SessionEntry entry;
  entry.id = *id;
  entry.created_ms = in.number<int64_t>();
  entry.name = in.text();
  if (!in.complete()) return std::nullopt;
  return entry;
}

std::string pack_unit(std::string_view key, const UnitRow& row) {
  std::string body;
  ByteWriter out(body);
  out.number(row.id);
  out.number(row.parts);
  out.number(row.bytes);
  body.append(row.fingerprint);
  return seal(key, std::move(body));
}

std::optional<UnitRow> unpack_unit(std::string_view key, std::string_view value) {
  constexpr size_t kNumbers = sizeof(uint64_t) + sizeof(uint32_t) + sizeof(uint64_t);
  const auto body = unseal(key, value);
  if (!body || body->size() != kNumbers + kDigestBytes) return std::nullopt;
  ByteReader in(*body);
  UnitRow row;
  row.id = in.number<uint64_t>();
  row.parts = in.number<uint32_t>();
  row.bytes = in.number<uint64_t>();
  row.fingerprint = body->substr(kNumbers);
  return row;
}

std::string pack_owned(std::string_view key, const OwnedRow& row) {
  return packed(key, row.key.hi, row.key.lo, row.bytes);
}

std::optional<OwnedRow> unpack_owned(std::string_view key, std::string_view value) {
  const auto body = unseal(key, value);
  if (!body) return std::nullopt;
  ByteReader in(*body);
  OwnedRow row;
  row.key.hi = in.number<uint64_t>();
  row.key.lo = in.number<uint64_t>();
  row.bytes = in.number<uint64_t>();
  if (!in.complete()) return std::nullopt;
  return row;
}

std::string part_binding(const ContentKey& key, const UnitRow& row, uint32_t part) {
  std::string binding = keys::part(row.id, part);
  ByteWriter out(binding);
  out.number(key.hi);
  out.number(key.lo);
  out.number(row.parts);
  binding.append(row.fingerprint);
  return binding;
}

}  // namespace ringtide::storage
