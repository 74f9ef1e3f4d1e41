#include "protocol/throttle.h"

#include <utility>

namespace ringtide::protocol {
namespace {

class ThrottledStream final : public kj::AsyncIoStream {
 public:
  ThrottledStream(kj::Own<kj::AsyncIoStream> inner, std::shared_ptr<Throttle> throttle)
      : inner_(kj::mv(inner)), throttle_(std::move(throttle)) {}

  kj::Promise<size_t> tryRead(void* buffer, size_t min, size_t max) override {
    return throttle_->open().then(
        [this, buffer, min, max]() { return inner_->tryRead(buffer, min, max); });
  }
  kj::Promise<void> write(const void* buffer, size_t size) override {
    return inner_->write(buffer, size).attach(throttle_->writing());
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    return inner_->write(pieces).attach(throttle_->writing());
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner_->whenWriteDisconnected(); }
  void shutdownWrite() override { inner_->shutdownWrite(); }
  void abortRead() override { inner_->abortRead(); }
  void getsockopt(int level, int option, void* value, kj::uint* length) override {
    inner_->getsockopt(level, option, value, length);
  }
  void setsockopt(int level, int option, const void* value, kj::uint length) override {
    inner_->setsockopt(level, option, value, length);
  }

 private:
  kj::Own<kj::AsyncIoStream> inner_;
  std::shared_ptr<Throttle> throttle_;
};

}  // namespace

kj::Promise<void> Throttle::open() {
  if (is_open()) return kj::READY_NOW;
  auto pair = kj::newPromiseAndFulfiller<void>();
  waiting_ = kj::mv(pair.fulfiller);
  return pair.promise.then([this]() { return open(); });
}

kj::Own<void> Throttle::hold(int Throttle::*count) {
  ++(this->*count);
  return kj::heap(kj::defer([self = shared_from_this(), count]() {
    --(self.get()->*count);
    self->wake();
  }));
}

void Throttle::wake() {
  if (!is_open()) return;
  KJ_IF_MAYBE (fulfiller, waiting_) {
    (*fulfiller)->fulfill();
    waiting_ = nullptr;
  }
}

kj::Own<kj::AsyncIoStream> throttled(kj::Own<kj::AsyncIoStream> inner,
                                     std::shared_ptr<Throttle> throttle) {
  return kj::heap<ThrottledStream>(kj::mv(inner), std::move(throttle));
}

}  // namespace ringtide::protocol
