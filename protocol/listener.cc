#include "protocol/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

namespace ringtide::protocol {
namespace {

constexpr int kMaxRefusing = 16;

// Small messages go out at once, and a host that vanished is noticed within minutes.
void tune(kj::AsyncIoStream& stream) {
  const auto set = [&](int level, int option, int value) {
    stream.setsockopt(level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

}  // namespace

ClientListener::ClientListener(kj::Own<kj::ConnectionReceiver> receiver, bool tcp, kj::Timer& timer,
                               Service& service, std::shared_ptr<Post> post,
                               const ServerLimits& limits, std::atomic<int>& connections)
    : receiver_(kj::mv(receiver)),
      tcp_(tcp),
      timer_(timer),
      service_(service),
      post_(std::move(post)),
      limits_(limits),
      connections_(connections),
      full_(kj::str("the server has reached its limit of ", limits.max_connections,
                    " connections; try again later")),
      tasks_(*this) {
  tasks_.add(accept());
}

kj::Promise<void> ClientListener::accept() {
  return receiver_->accept()
      .then([this](kj::Own<kj::AsyncIoStream> stream) { serve(kj::mv(stream)); })
      .catch_([this](kj::Exception&&) {
        // Out of descriptors, or a client that left before it was accepted.
        return timer_.afterDelay(50 * kj::MILLISECONDS);
      })
      .then([this]() { return accept(); });
}

void ClientListener::serve(kj::Own<kj::AsyncIoStream> stream) {
  if (tcp_) tune(*stream);
  if (connections_ >= limits_.max_connections) {
    if (refusing_ >= kMaxRefusing) return;
    ++refusing_;
    tasks_.add(refuse(kj::mv(stream), timer_, full_).attach(kj::defer([this]() { --refusing_; })));
    return;
  }
  ++connections_;
  auto connection = kj::heap<Connection>(kj::mv(stream), service_, post_, limits_);
  auto closed = connection->closed(timer_);
  tasks_.add(closed.attach(kj::mv(connection), kj::defer([this]() { --connections_; })));
}

}  // namespace ringtide::protocol
