// Where shards listen, and whether others than this machine's could come.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace ringtide::actors::cluster {

// Cannot listen or connect: says where and why.
struct NetError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Address {
  std::string host;
  uint16_t port = 0;
};

// "host:port"; "host" where the port may be any. An IPv6 address stands in brackets. Throws
// std::invalid_argument that says what is wrong.
Address parse_address(const std::string& text);
std::string to_string(const Address& address);
// Only this machine can reach it: 127.0.0.0/8, ::1, or localhost.
bool is_loopback(const std::string& host);
// It names no host: 0.0.0.0 or ::.
bool is_any(const std::string& host);

// Files in PEM. All three are given, or none.
struct Security {
  std::string certificate, key, authority;
  bool on() const { return !certificate.empty() && !key.empty() && !authority.empty(); }
  bool none() const { return certificate.empty() && key.empty() && authority.empty(); }
};

// Why an address must not be used with this security; empty: it may.
std::string exposure(const Address& address, const Security& security);

}  // namespace ringtide::actors::cluster
