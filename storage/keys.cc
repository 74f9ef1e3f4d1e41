#include "storage/keys.h"

#include <concepts>

namespace ringtide::storage::keys {
namespace {

constexpr char kDoomed = 'd', kUnit = 'i', kLog = 'l', kMeta = 'm', kOwned = 'n', kOwner = 'o',
               kSession = 's', kTotals = 't';

template <std::unsigned_integral T>
void put(std::string& key, T number) {
  for (int shift = 8 * (sizeof number - 1); shift >= 0; shift -= 8)
    key.push_back(static_cast<char>(number >> shift));
}

template <std::unsigned_integral... T>
std::string table_key(char table, T... numbers) {
  std::string key(1, table);
  (put(key, numbers), ...);
  return key;
}

uint64_t number_at(std::string_view key, size_t offset) {
  uint64_t number = 0;
  for (size_t i = offset; i < offset + 8; ++i)
    number = number << 8 | static_cast<unsigned char>(key[i]);
  return number;
}

bool is(std::string_view key, char table, size_t numbers) {
  return key.size() == 1 + 8 * numbers && key[0] == table;
}

// The least key above all that begin with `prefix`; no prefix here is all 0xff.
Range with_prefix(std::string prefix) {
  std::string last = prefix;
  while (static_cast<unsigned char>(last.back()) == 0xff) last.pop_back();
  ++last.back();
  return {std::move(prefix), std::move(last)};
}

}  // namespace

std::string format() { return std::string(1, kMeta) + "format"; }
std::string next_session() { return std::string(1, kMeta) + "next_session"; }
std::string session(SessionId id) { return table_key(kSession, id); }
std::string doomed(SessionId id) { return table_key(kDoomed, id); }
std::string log(SessionId id, uint64_t sequence) { return table_key(kLog, id, sequence); }

std::string totals(SessionId id) { return table_key(kTotals, id); }

std::string unit(const ContentKey& key) { return table_key(kUnit, key.hi, key.lo); }
std::string owner(const Owner& owner) {
  return table_key(kOwner, owner.key.hi, owner.key.lo, owner.session,
                   static_cast<uint64_t>(owner.number));
}
std::string owned(SessionId id, int64_t number) {
  return table_key(kOwned, id, static_cast<uint64_t>(number));
}
std::string part(uint64_t unit_id, uint32_t part) {
  std::string key;
  put(key, unit_id);
  put(key, part);
  return key;
}

Range all_sessions() { return with_prefix({kSession}); }
Range all_doomed() { return with_prefix({kDoomed}); }
Range log_of(SessionId id) { return with_prefix(table_key(kLog, id)); }
Range all_units() { return with_prefix({kUnit}); }
Range owners_of(const ContentKey& key) { return with_prefix(table_key(kOwner, key.hi, key.lo)); }
Range owned_by(SessionId id) { return with_prefix(table_key(kOwned, id)); }
Range parts_of(uint64_t first_unit, uint64_t last_unit) {
  return {part(first_unit, 0), part(last_unit + 1, 0)};
}

std::optional<SessionId> parse_session(std::string_view key) {
  if (!is(key, kSession, 1) && !is(key, kDoomed, 1)) return std::nullopt;
  return number_at(key, 1);
}
std::optional<uint64_t> parse_log_sequence(std::string_view key) {
  if (!is(key, kLog, 2)) return std::nullopt;
  return number_at(key, 9);
}
std::optional<ContentKey> parse_unit(std::string_view key) {
  if (!is(key, kUnit, 2)) return std::nullopt;
  return ContentKey{number_at(key, 1), number_at(key, 9)};
}
std::optional<Owner> parse_owner(std::string_view key) {
  if (!is(key, kOwner, 4)) return std::nullopt;
  return Owner{.key = {number_at(key, 1), number_at(key, 9)},
               .session = number_at(key, 17),
               .number = static_cast<int64_t>(number_at(key, 25))};
}
std::optional<int64_t> parse_owned_number(std::string_view key) {
  if (!is(key, kOwned, 2)) return std::nullopt;
  return static_cast<int64_t>(number_at(key, 9));
}
std::optional<uint64_t> parse_part_unit(std::string_view key) {
  if (key.size() != 12) return std::nullopt;
  return number_at(key, 0);
}

}  // namespace ringtide::storage::keys
