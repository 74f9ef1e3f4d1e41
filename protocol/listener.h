// Accepts clients, within the server's limits. Inside this room only.
#pragma once

#include <kj/async-io.h>

#include <atomic>
#include <memory>

#include "protocol/connection.h"

namespace ringtide::protocol {

// Loop thread. Destroying it closes every connection.
class ClientListener final : private kj::TaskSet::ErrorHandler {
 public:
  // `connections` counts the clients being served; any thread may read it.
  ClientListener(kj::Own<kj::ConnectionReceiver> receiver, bool tcp, kj::Timer& timer,
                 Service& service, std::shared_ptr<Post> post, const ServerLimits& limits,
                 std::atomic<int>& connections);

 private:
  kj::Promise<void> accept();
  void serve(kj::Own<kj::AsyncIoStream> stream);
  void taskFailed(kj::Exception&&) override {}  // the end of one connection, and nothing else

  kj::Own<kj::ConnectionReceiver> receiver_;
  const bool tcp_;
  kj::Timer& timer_;
  Service& service_;
  const std::shared_ptr<Post> post_;
  const ServerLimits limits_;
  std::atomic<int>& connections_;
  const kj::String full_;  // what a client beyond the limit is told
  int refusing_ = 0;
  kj::TaskSet tasks_;
};

}  // namespace ringtide::protocol
