#include "storage/checksum.h"

#include <xxhash.h>

#include <cstring>
#include <memory>

#include "storage/bytes.h"

namespace ringtide::storage {

uint64_t checksum(std::string_view first, std::string_view second) {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  thread_local const std::unique_ptr<XXH3_state_t, Free> state(XXH3_createState());
  XXH3_64bits_reset(state.get());
  XXH3_64bits_update(state.get(), first.data(), first.size());
  XXH3_64bits_update(state.get(), second.data(), second.size());
  return XXH3_64bits_digest(state.get());
}

std::string seal(std::string_view key, std::string body) {
  const uint64_t sum = checksum(key, body);
  ByteWriter(body).number(sum);
  return body;
}

std::optional<std::string_view> unseal(std::string_view key, std::string_view value) {
  if (value.size() < kChecksumBytes) return std::nullopt;
  const std::string_view body = value.substr(0, value.size() - kChecksumBytes);
  uint64_t stored = 0;
  std::memcpy(&stored, value.data() + body.size(), sizeof stored);
  if (stored != checksum(key, body)) return std::nullopt;
  return body;
}

std::string fingerprint_digest(std::string_view fingerprint) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(fingerprint.data(), fingerprint.size()));
  return {reinterpret_cast<const char*>(canonical.digest), sizeof canonical.digest};
}

}  // namespace ringtide::storage
