// When a server stops reading from a connection. Inside this room only.
//
// The RPC system queues outgoing messages without a bound. What a client can make it queue is
// bounded here by not reading from a client that does not read, and not from one with many calls to
// be answered: the next request is taken when there is room for its answer.
#pragma once

#include <kj/async.h>

#include <memory>

namespace ringtide::protocol {

// Of one connection; loop thread.
class Throttle : public std::enable_shared_from_this<Throttle> {
 public:
  // Holds one call to be answered for as long as it lives.
  kj::Own<void> call() { return hold(&Throttle::calls_); }
  // Holds a message that is being written.
  kj::Own<void> writing() { return hold(&Throttle::writes_); }
  // Resolves once the next request may be read. One caller at a time.
  kj::Promise<void> open();

 private:
  static constexpr int kMaxCalls = 64;

  bool is_open() const { return writes_ == 0 && calls_ < kMaxCalls; }
  kj::Own<void> hold(int Throttle::*count);
  void wake();

  int calls_ = 0;
  int writes_ = 0;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waiting_;
};

}  // namespace ringtide::protocol
