// A reply that is owed to a caller outside the actors.
//
// Copies share one debt. It is paid once: by the first call, or, if every copy is gone unpaid (an
// actor died, a message met a closed mailbox), by the last destructor. So no caller waits for ever,
// whatever happens between. Any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "protocol/service.h"

namespace ringtide::actors {

template <class... Ts>
class Answer {
 public:
  using Reply = std::function<void(protocol::Outcome, Ts...)>;

  Answer() = default;
  explicit Answer(Reply reply) : debt_(std::make_shared<Debt>(std::move(reply))) {}

  void operator()(protocol::Outcome outcome, Ts... values) const {
    if (debt_ && !debt_->paid.exchange(true)) {
      debt_->reply(std::move(outcome), std::move(values)...);
    }
  }
  void fail(protocol::Outcome outcome) const { (*this)(std::move(outcome), Ts{}...); }

 private:
  struct Debt {
    explicit Debt(Reply r) : reply(std::move(r)) {}
    ~Debt() {
      if (paid) return;
      reply({protocol::Code::Internal,
             "the session ended before it could answer; open it again, what was acknowledged is "
             "stored",
             0},
            Ts{}...);
    }
    Reply reply;
    std::atomic<bool> paid{false};
  };
  std::shared_ptr<Debt> debt_;
};

}  // namespace ringtide::actors
