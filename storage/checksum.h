// The project's own checksums, beside those of the database: a value is only believed when it
// belongs to the key it was found under.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ringtide::storage {

constexpr size_t kChecksumBytes = 8;

// XXH3-64 of `first` followed by `second`, seed 0.
uint64_t checksum(std::string_view first, std::string_view second);

// `body` followed by the checksum of key and body.
std::string seal(std::string_view key, std::string body);
// The body (a view into `value`); nothing if it was changed or stored under another key.
std::optional<std::string_view> unseal(std::string_view key, std::string_view value);

// 128 bits that stand for a fingerprint of any length: 16 bytes, XXH3-128 in canonical order.
std::string fingerprint_digest(std::string_view fingerprint);

}  // namespace ringtide::storage
