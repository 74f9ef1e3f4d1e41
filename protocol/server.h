// The Cap'n Proto server: a thread with its KJ loop in front of a Service.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "protocol/service.h"

namespace ringtide::protocol {

struct ServerLimits {
  int64_t max_message_bytes = 4 << 20;  // a larger message ends its connection
  int max_connections = 256;
  int idle_handshake_seconds = 30;     // a connection that says nothing that long is closed
  int64_t max_queued_bytes = 1 << 20;  // towards one client, of one generation, before it pauses
};

class Server {
 public:
  // Listens on "host:port" (port 0: any free one) or "unix:/path", and serves until destroyed.
  // Throws std::runtime_error that names the address and the reason.
  Server(const std::string& address, Service& service, const ServerLimits& limits);
  ~Server();  // closes every connection, joins the thread
  // The address with the real port.
  const std::string& address() const;
  int connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtide::protocol
