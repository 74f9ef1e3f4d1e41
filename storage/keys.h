// Keys of every row. Numbers in keys are big endian, so that the database's order is theirs; the
// first byte of a key names its table. Layout byte by byte: FORMAT.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "storage/store.h"

namespace ringtide::storage::keys {

// Database `sessions`.
std::string format();
std::string next_session();
std::string session(SessionId id);
std::string doomed(SessionId id);  // session whose removal has begun
std::string log(SessionId id, uint64_t sequence);
std::string totals(SessionId id);

// Database `units`, index.
struct Owner {
  ContentKey key;
  SessionId session = 0;
  int64_t number = 0;
};
std::string unit(const ContentKey& key);
std::string owner(const Owner& owner);            // ordered by content key
std::string owned(SessionId id, int64_t number);  // ordered by session

// Database `units`, payload.
std::string part(uint64_t unit_id, uint32_t part);

// All keys of a table, or those that begin with a number: [first, last).
struct Range {
  std::string first, last;
};
Range all_sessions();
Range all_doomed();
Range log_of(SessionId id);
Range all_units();
Range owners_of(const ContentKey& key);
Range owned_by(SessionId id);
Range parts_of(uint64_t first_unit, uint64_t last_unit);  // both included

// Back from a key; nothing if it has another form.
std::optional<SessionId> parse_session(std::string_view key);  // of `session` and `doomed`
std::optional<uint64_t> parse_log_sequence(std::string_view key);
std::optional<ContentKey> parse_unit(std::string_view key);
std::optional<Owner> parse_owner(std::string_view key);
std::optional<int64_t> parse_owned_number(std::string_view key);
std::optional<uint64_t> parse_part_unit(std::string_view key);

}  // namespace ringtide::storage::keys
