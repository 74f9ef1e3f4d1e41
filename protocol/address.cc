#include "protocol/address.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace ringtide::protocol {
namespace {

constexpr int kBacklog = 128;
const std::string kUnixPrefix = "unix:";

[[noreturn]] void fail(const std::string& what, const std::string& address,
                       const std::string& why) {
  throw std::runtime_error("cannot " + what + " " + address + ": " + why);
}

std::string reason(int error) {
  switch (error) {
    case EADDRINUSE:
      return "the address is in use; stop what listens there or choose another";
    case EACCES:
      return "permission denied; choose a port above 1023 or a folder you may write to";
    case EADDRNOTAVAIL:
      return "no interface of this machine has that address";
    case ECONNREFUSED:
      return "connection refused; is the server running there?";
    case ENOENT:
      return "no such socket; is the server running there?";
    case ETIMEDOUT:
      return "timed out; is the host reachable?";
    default:
      return std::strerror(error);
  }
}

struct HostPort {
  std::string host, port;
};

HostPort split(const std::string& what, const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) fail(what, address, "expected host:port or unix:/path");
  HostPort parts{address.substr(0, colon), address.substr(colon + 1)};
  if (parts.host.size() >= 2 && parts.host.front() == '[' && parts.host.back() == ']') {
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  } else if (parts.host.find(':') != std::string::npos) {
    fail(what, address, "write an IPv6 address as [address]:port");
  }
  const bool digits = !parts.port.empty() && parts.port.size() <= 5 &&
                      parts.port.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoi(parts.port) > 65535) {
    fail(what, address, "the port must be a number from 0 to 65535");
  }
  if (parts.host.empty()) fail(what, address, "the host is missing; * means every interface");
  return parts;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddressList resolve(const std::string& what, const std::string& address, bool passive) {
  const HostPort parts = split(what, address);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const bool any = passive && parts.host == "*";
  const int error =
      getaddrinfo(any ? nullptr : parts.host.c_str(), parts.port.c_str(), &hints, &found);
  if (error != 0) fail(what, address, gai_strerror(error));
  return AddressList(found, freeaddrinfo);
}

sockaddr_un unix_address(const std::string& what, const std::string& address) {
  const std::string path = address.substr(kUnixPrefix.size());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty()) fail(what, address, "the path is missing");
  if (path.size() >= sizeof name.sun_path) {
    fail(what, address,
         "the path is longer than " + std::to_string(sizeof name.sun_path - 1) + " bytes");
  }
  std::memcpy(name.sun_path, path.data(), path.size());
  return name;
}

bool is_unix(const std::string& address) { return address.rfind(kUnixPrefix, 0) == 0; }

Socket make_socket(int family, int flags) {
  return Socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

// 0, or what connect() failed with.
int connect_within(const Socket& socket, const sockaddr* name, socklen_t size, int seconds) {
  if (::connect(socket.fd(), name, size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting{socket.fd(), POLLOUT, 0};
  const int ready = ::poll(&waiting, 1, seconds * 1000);
  if (ready == 0) return ETIMEDOUT;
  if (ready < 0) return errno;
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

// Removes the file of a server that is no longer there; leaves everything else alone.
void clear_stale(const std::string& address, const sockaddr_un& name) {
  struct stat status {};
  if (::lstat(name.sun_path, &status) != 0) return;
  if (!S_ISSOCK(status.st_mode)) {
    fail("listen on", address, "the path exists and is not a socket; choose another");
  }
  const Socket probe = make_socket(AF_UNIX, SOCK_NONBLOCK);
  const auto* plain = reinterpret_cast<const sockaddr*>(&name);
  if (probe.fd() >= 0 && connect_within(probe, plain, sizeof name, 1) == ECONNREFUSED) {
    ::unlink(name.sun_path);
  }
}

Listener listen_unix(const std::string& address) {
  const sockaddr_un name = unix_address("listen on", address);
  clear_stale(address, name);
  Listener listener{make_socket(AF_UNIX, 0), address, name.sun_path};
  const int fd = listener.socket.fd();
  if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(fd, kBacklog) != 0) {
    fail("listen on", address,
         errno == ENOENT ? "the folder does not exist; make it first" : reason(errno));
  }
  return listener;
}

std::string with_port(const std::string& address, int fd) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  char port[NI_MAXSERV] = "";
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  ::getnameinfo(reinterpret_cast<sockaddr*>(&name), size, nullptr, 0, port, sizeof port,
                NI_NUMERICSERV);
  return address.substr(0, address.rfind(':') + 1) + port;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

int Socket::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

Listener listen_on(const std::string& address) {
  if (is_unix(address)) return listen_unix(address);
  const AddressList found = resolve("listen on", address, true);
  int error = 0;
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    Socket socket = make_socket(a->ai_family, 0);
    const int on = 1;
    if (socket.fd() >= 0 &&
        ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        ::bind(socket.fd(), a->ai_addr, a->ai_addrlen) == 0 &&
        ::listen(socket.fd(), kBacklog) == 0) {
      std::string real = with_port(address, socket.fd());
      return {std::move(socket), std::move(real), ""};
    }
    error = errno;
  }
  fail("listen on", address, reason(error));
}

std::string cannot_listen(const std::string& address) {
  try {
    const Listener listener = listen_on(address);
    if (!listener.unix_path.empty()) ::unlink(listener.unix_path.c_str());
    return "";
  } catch (const std::runtime_error& e) {
    return e.what();
  }
}

Socket connect_to(const std::string& address, int seconds) {
  if (is_unix(address)) {
    const sockaddr_un name = unix_address("connect to", address);
    Socket socket = make_socket(AF_UNIX, SOCK_NONBLOCK);
    const int error =
        connect_within(socket, reinterpret_cast<const sockaddr*>(&name), sizeof name, seconds);
    if (error != 0) fail("connect to", address, reason(error));
    return socket;
  }
  const AddressList found = resolve("connect to", address, false);
  int error = 0;
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    Socket socket = make_socket(a->ai_family, SOCK_NONBLOCK);
    error = connect_within(socket, a->ai_addr, a->ai_addrlen, seconds);
    if (error == 0) return socket;
  }
  fail("connect to", address, reason(error));
}

}  // namespace ringtide::protocol
