// One generation on its way to a client: the chunks the service pushes, sent within a bound.
// Inside this room only.
#pragma once

#include <capnp/capability.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <tuple>

#include "protocol/loop.h"
#include "protocol/wire.h"

namespace ringtide::protocol {

// Loop thread only; the service reaches it through start(). Owned by the call that waits for it.
class Generation final : public std::enable_shared_from_this<Generation>,
                         private kj::TaskSet::ErrorHandler {
 public:
  // At most `limit` bytes are unacknowledged by the client, or one chunk if that is larger.
  Generation(wire::TextSink::Client sink, int64_t limit);
  ~Generation() noexcept(false);

  using Answer = std::tuple<Outcome, GenerateResult>;
  // Has `handle` generate into this. Answers when the client has handled every chunk.
  kj::Promise<Answer> start(SessionHandle& handle, const GenerateParams& params,
                            std::shared_ptr<Post> post);
  // Asks the service to end it; what was pushed is still delivered. Any number of times.
  void cancel();

 private:
  class Sink;
  struct Waiting {
    TextChunk chunk;
    std::function<void(bool)> taken;
  };

  void push(TextChunk chunk, std::function<void(bool)> taken);
  void finish(Outcome outcome, GenerateResult result);
  void pump();
  void send(const TextChunk& chunk, int64_t cost);
  void finish_sink();
  void answer();
  // Nobody takes chunks any more: answers those that wait, and cancels.
  void lose_client();
  void taskFailed(kj::Exception&& exception) override;

  wire::TextSink::Client sink_;
  const int64_t limit_;
  std::deque<Waiting> waiting_;
  int64_t unacknowledged_ = 0;
  bool lost_ = false;
  bool finished_ = false;
  Outcome outcome_;
  GenerateResult result_;
  std::function<void()> cancel_;
  kj::Own<kj::PromiseFulfiller<Answer>> answer_;
  kj::TaskSet tasks_;
};

}  // namespace ringtide::protocol
