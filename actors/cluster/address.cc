#include "actors/cluster/address.h"

#include <charconv>
#include <stdexcept>

namespace ringtide::actors::cluster {

Address parse_address(const std::string& text) {
  const auto wrong = [&](const std::string& what) {
    return std::invalid_argument("'" + text + "' " + what + ": write host:port");
  };
  Address address;
  size_t colon = text.rfind(':');
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string::npos) throw wrong("lacks a ]");
    address.host = text.substr(1, close - 1);
    colon = close + 1 < text.size() ? close + 1 : std::string::npos;
    if (colon != std::string::npos && text[colon] != ':') throw wrong("has no port after the ]");
  } else {
    if (colon != std::string::npos && text.find(':') != colon)
      throw wrong("has several colons; an IPv6 address stands in brackets");
    address.host = text.substr(0, colon);
  }
  if (address.host.empty()) throw wrong("names no host");
  if (colon == std::string::npos) return address;
  const char* begin = text.data() + colon + 1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, address.port);
  if (begin == end || stop != end || error != std::errc())
    throw wrong("has no port from 0 to 65535");
  return address;
}

std::string to_string(const Address& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

bool is_loopback(const std::string& host) {
  if (host == "localhost" || host == "::1") return true;
  // Four numbers, the first of which is 127; "127.example.org" is a name like any other.
  if (!host.starts_with("127.")) return false;
  return host.find_first_not_of("0123456789.") == std::string::npos;
}

bool is_any(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

std::string exposure(const Address& address, const Security& security) {
  if (!security.on() && !security.none()) {
    return "a certificate, its key and the authority's certificate are needed together";
  }
  if (security.on() || is_loopback(address.host)) return "";
  return to_string(address) +
         " can be reached from other machines, and the cluster's protocol lets in whoever "
         "connects: give certificates, or use a loopback address";
}

}  // namespace ringtide::actors::cluster
