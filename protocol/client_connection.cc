#include "protocol/client_connection.h"

#include <kj/io.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <utility>

#include "protocol/address.h"

namespace ringtide::protocol {
namespace {

constexpr int kConnectSeconds = 10;

kj::Own<kj::AsyncIoStream> connect(ClientLoop& loop, const std::string& address) {
  try {
    Socket socket = connect_to(address, kConnectSeconds);
    const int on = 1;
    // Fails on a Unix socket, which has nothing to delay.
    ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return loop.io.lowLevelProvider->wrapSocketFd(kj::AutoCloseFd(socket.release()));
  } catch (const std::runtime_error& e) {
    throw ClientError({Code::Internal, e.what(), 0});
  }
}

// What a person can use of it: the other side's own words, without the library's expressions.
std::string reason(const kj::Exception& e) {
  std::string text = e.getDescription().cStr();
  text = text.substr(0, text.find('\n'));
  const std::string remote = "remote exception: ";
  if (text.rfind(remote, 0) == 0) text.erase(0, remote.size());
  if (text.rfind("::", 0) == 0) text = "closed by the other side";  // a call that failed, as code
  return text;
}

wire::Ringtide::Client bootstrap(capnp::RpcSystem<capnp::rpc::twoparty::VatId>& rpc) {
  capnp::MallocMessageBuilder message;
  auto vat = message.initRoot<capnp::rpc::twoparty::VatId>();
  vat.setSide(capnp::rpc::twoparty::Side::SERVER);
  return rpc.bootstrap(vat).castAs<wire::Ringtide>();
}

}  // namespace

std::shared_ptr<ClientLoop> ClientLoop::of_this_thread() {
  thread_local std::weak_ptr<ClientLoop> current;
  auto loop = current.lock();
  if (!loop) current = loop = std::make_shared<ClientLoop>();
  return loop;
}

ClientConnection::ClientConnection(const std::string& address)
    : address_(address),
      loop_(ClientLoop::of_this_thread()),
      stream_(connect(*loop_, address)),
      network_(*stream_, capnp::rpc::twoparty::Side::CLIENT),
      rpc_(capnp::makeRpcClient(network_)),
      server_(bootstrap(rpc_)) {
  // A server that is full says so here.
  wait(timer().timeoutAfter(kConnectSeconds * kj::SECONDS, server_.whenResolved()));
}

void ClientConnection::fail(const kj::Exception& e) const {
  const std::string why = reason(e);
  switch (e.getType()) {
    case kj::Exception::Type::DISCONNECTED:
      throw ClientError({Code::Internal,
                         "the connection to " + address_ + " is lost (" + why +
                             "); connect again and open the session by name: what was "
                             "acknowledged is kept",
                         0},
                        true);
    case kj::Exception::Type::OVERLOADED:
      throw ClientError({Code::Internal,
                         "no answer from " + address_ + " (" + why +
                             "); is it a Ringtide server, and is it overloaded?",
                         0});
    default:
      throw ClientError({Code::Internal, "the call to " + address_ + " failed: " + why, 0});
  }
}

}  // namespace ringtide::protocol
