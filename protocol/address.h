// Addresses as people write them, and the sockets they mean. No RPC and no event loop.
#pragma once

#include <string>

namespace ringtide::protocol {

// An open file descriptor, closed with it.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();
  int fd() const { return fd_; }
  int release();

 private:
  int fd_;
};

struct Listener {
  Socket socket;
  std::string address;    // with the real port
  std::string unix_path;  // empty for TCP; to be removed by whoever closes the socket
};

// "host:port", "[v6]:port", "*:port" (port 0: any free one) or "unix:/path". The socket file of a
// dead server is replaced. Throws std::runtime_error that names the address and what to do.
Listener listen_on(const std::string& address);

// What listen_on(address) would throw now; empty where it would not. Leaves nothing behind.
std::string cannot_listen(const std::string& address);

// Connects, trying each address of a host, `seconds` for each. Throws like listen_on.
Socket connect_to(const std::string& address, int seconds);

}  // namespace ringtide::protocol
