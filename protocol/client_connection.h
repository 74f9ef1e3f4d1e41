// A client's end of the connection, and the loop it runs on. Inside this room only.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <memory>
#include <string>

#include "protocol/client.h"
#include "protocol/wire.h"

namespace ringtide::protocol {

// The KJ loop of a thread: there can be one, and all clients of the thread share it.
struct ClientLoop {
  static std::shared_ptr<ClientLoop> of_this_thread();
  kj::AsyncIoContext io = kj::setupAsyncIo();
};

// One thread. Kept by the client and its sessions.
class ClientConnection {
 public:
  explicit ClientConnection(const std::string& address);

  wire::Ringtide::Client& server() { return server_; }
  kj::WaitScope& scope() { return loop_->io.waitScope; }
  kj::Timer& timer() { return loop_->io.provider->getTimer(); }

  // Runs the loop until `promise` is there. A broken connection becomes a ClientError.
  template <class T>
  T wait(kj::Promise<T> promise) {
    try {
      return promise.wait(scope());
    } catch (const kj::Exception& e) {
      fail(e);
    }
  }
  // The same for the response of a request.
  template <class T>
  capnp::Response<T> wait(capnp::RemotePromise<T> promise) {
    return wait(kj::Promise<capnp::Response<T>>(kj::mv(promise)));
  }

 private:
  [[noreturn]] void fail(const kj::Exception& e) const;

  const std::string address_;
  std::shared_ptr<ClientLoop> loop_;
  kj::Own<kj::AsyncIoStream> stream_;
  capnp::TwoPartyVatNetwork network_;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc_;
  wire::Ringtide::Client server_;
};

// Throws the error if that is what `results`, a union with one, holds.
template <class Results>
void check(const Results& results) {
  if (results.isError()) throw ClientError(read(results.getError()));
}

// client_session.cc
std::unique_ptr<ClientSession> make_session(std::shared_ptr<ClientConnection> connection,
                                            wire::Session::Client session);

}  // namespace ringtide::protocol
