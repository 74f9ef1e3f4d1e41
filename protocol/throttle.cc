#include "protocol/throttle.h"

#include <utility>

namespace ringtide::protocol {

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

}  // namespace ringtide::protocol
