#include "protocol/server.h"

#include <kj/async-io.h>
#include <kj/io.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>

#include "protocol/address.h"
#include "protocol/listener.h"

namespace ringtide::protocol {

struct Server::Impl {
  Impl(const std::string& wanted, Service& service, const ServerLimits& limits)
      : listener(listen_on(wanted)), service(service), limits(limits) {}

  void run();
  void serve(kj::AsyncIoContext& io);

  Listener listener;
  Service& service;
  const ServerLimits limits;
  std::atomic<int> connections{0};
  const std::shared_ptr<Post> post = std::make_shared<Post>();
  std::promise<void> started;
  kj::Own<kj::PromiseFulfiller<void>> stop;  // loop thread
  std::thread thread;
};

void Server::Impl::run() {
  // Signals are the business of the process's other threads.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  try {
    auto io = kj::setupAsyncIo();
    serve(io);
  } catch (const kj::Exception& e) {
    post->close();
    started.set_exception(std::make_exception_ptr(
        std::runtime_error("cannot serve " + listener.address + ": " + e.getDescription().cStr())));
  }
}

void Server::Impl::serve(kj::AsyncIoContext& io) {
  auto receiver =
      io.lowLevelProvider->wrapListenSocketFd(kj::AutoCloseFd(listener.socket.release()));
  {
    ClientListener clients(kj::mv(receiver), listener.unix_path.empty(), io.provider->getTimer(),
                           service, post, limits, connections);
    auto posted = post->run().eagerlyEvaluate(nullptr);
    auto stopping = kj::newPromiseAndFulfiller<void>();
    stop = kj::mv(stopping.fulfiller);
    started.set_value();
    stopping.promise.wait(io.waitScope);
    stop = nullptr;
  }
  post->close();
}

Server::Server(const std::string& address, Service& service, const ServerLimits& limits)
    : impl_(std::make_unique<Impl>(address, service, limits)) {
  auto started = impl_->started.get_future();
  impl_->thread = std::thread([this]() { impl_->run(); });
  try {
    started.get();
  } catch (...) {
    impl_->thread.join();
    throw;
  }
}

Server::~Server() {
  impl_->post->post([impl = impl_.get()]() { impl->stop->fulfill(); });
  impl_->thread.join();
  if (!impl_->listener.unix_path.empty()) ::unlink(impl_->listener.unix_path.c_str());
}

const std::string& Server::address() const { return impl_->listener.address; }

int Server::connections() const { return impl_->connections; }

}  // namespace ringtide::protocol
