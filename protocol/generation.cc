#include "protocol/generation.h"

#include <utility>

namespace ringtide::protocol {
namespace {

// What a chunk costs in memory until it is acknowledged: its content and the message around it.
int64_t cost_of(const TextChunk& chunk) {
  constexpr int64_t kMessage = 128;
  return kMessage + static_cast<int64_t>(chunk.text.size()) +
         static_cast<int64_t>(chunk.tokens.size() * sizeof(int32_t));
}

}  // namespace

// The service's end, on any thread: carries chunks to the loop, or answers that the client is gone.
class Generation::Sink final : public TextSink {
 public:
  Sink(std::weak_ptr<Generation> to, std::shared_ptr<Post> post)
      : to_(std::move(to)), post_(std::move(post)) {}

  void push(TextChunk chunk, std::function<void(bool)> taken) override {
    auto deliver = [to = to_, chunk = std::move(chunk), taken]() mutable {
      if (auto generation = to.lock()) {
        generation->push(std::move(chunk), std::move(taken));
      } else {
        taken(false);
      }
    };
    if (!post_->post(std::move(deliver))) taken(false);
  }

 private:
  const std::weak_ptr<Generation> to_;
  const std::shared_ptr<Post> post_;
};

Generation::Generation(wire::TextSink::Client sink, int64_t limit)
    : sink_(kj::mv(sink)), limit_(limit), tasks_(*this) {}

Generation::~Generation() noexcept(false) { lose_client(); }

kj::Promise<Generation::Answer> Generation::start(SessionHandle& handle,
                                                  const GenerateParams& params,
                                                  std::shared_ptr<Post> post) {
  auto pair = kj::newPromiseAndFulfiller<Answer>();
  answer_ = kj::mv(pair.fulfiller);
  // The result takes the same way as the chunks, so that it cannot overtake them.
  auto done = [self = weak_from_this(), post](Outcome outcome, GenerateResult result) {
    post->post([self, outcome = std::move(outcome), result]() mutable {
      if (auto generation = self.lock()) generation->finish(std::move(outcome), result);
    });
  };
  cancel_ = handle.generate(params, std::make_shared<Sink>(weak_from_this(), post), done);
  return kj::mv(pair.promise);
}

void Generation::cancel() {
  if (cancel_) cancel_();
}

void Generation::push(TextChunk chunk, std::function<void(bool)> taken) {
  if (lost_ || finished_) return taken(false);
  waiting_.push_back({std::move(chunk), std::move(taken)});
  pump();
}

void Generation::finish(Outcome outcome, GenerateResult result) {
  if (finished_) return;
  finished_ = true;
  outcome_ = std::move(outcome);
  result_ = result;
  pump();
}

void Generation::pump() {
  while (!waiting_.empty() && !lost_) {
    const int64_t cost = cost_of(waiting_.front().chunk);
    if (unacknowledged_ > 0 && unacknowledged_ + cost > limit_) return;
    Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    send(next.chunk, cost);
    next.taken(true);
  }
  if (!finished_) return;
  if (lost_) {
    answer();
  } else if (waiting_.empty() && unacknowledged_ == 0) {
    finish_sink();
  }
}

// A plain call of the streaming method: a streaming call is acknowledged by the socket's window,
// and the bound here is on what the client has not handled.
void Generation::send(const TextChunk& chunk, int64_t cost) {
  auto request = sink_.typelessRequest(
      capnp::typeId<wire::TextSink>(), /*methodId=*/0,
      capnp::MessageSize{static_cast<uint64_t>(cost) / sizeof(capnp::word) + 1, 0});
  write(chunk, request.initAs<wire::TextSink::ChunkParams>());
  unacknowledged_ += cost;
  tasks_.add(request.send().then([this, cost](auto&&) {
    unacknowledged_ -= cost;
    pump();
  }));
}

void Generation::finish_sink() {
  tasks_.add(sink_.doneRequest().send().then([this](auto&&) { answer(); }));
}

void Generation::answer() { answer_->fulfill(Answer(std::move(outcome_), result_)); }

void Generation::lose_client() {
  if (lost_) return;
  lost_ = true;
  if (!finished_) cancel();
  for (auto& waiting : waiting_) waiting.taken(false);
  waiting_.clear();
}

void Generation::taskFailed(kj::Exception&&) {
  lose_client();
  pump();
}

}  // namespace ringtide::protocol
