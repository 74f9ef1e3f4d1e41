#include <deque>
#include <exception>
#include <utility>

#include "protocol/client_connection.h"

namespace ringtide::protocol {
namespace {

constexpr size_t kPiece = 64 << 10;  // bytes of text in one write
constexpr kj::Duration kQuiet = 200 * kj::MILLISECONDS;

// How far an append has come, as the server tells while it goes on.
struct Progress {
  uint64_t bytes = 0;
  bool failed = false;
  bool asking = false;
  kj::Promise<void> answer = nullptr;
};

// What a generation has brought and the caller has not seen.
struct Inbox {
  struct Arrived {
    TextChunk chunk;
    kj::Own<kj::PromiseFulfiller<void>> handled;
  };
  std::deque<Arrived> chunks;
  kj::Own<kj::PromiseFulfiller<bool>> wake;

  void ring() {
    if (wake.get() != nullptr) wake->fulfill(true);
    wake = nullptr;
  }
};

class InboxSink final : public wire::TextSink::Server {
 public:
  explicit InboxSink(std::shared_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}

  // Answers when the caller's function has returned, so that a slow caller slows the server.
  kj::Promise<void> chunk(ChunkContext context) override {
    context.allowCancellation();
    auto handled = kj::newPromiseAndFulfiller<void>();
    inbox_->chunks.push_back({read(context.getParams()), kj::mv(handled.fulfiller)});
    inbox_->ring();
    return kj::mv(handled.promise);
  }
  kj::Promise<void> done(DoneContext) override { return kj::READY_NOW; }

 private:
  const std::shared_ptr<Inbox> inbox_;
};

class RpcSession final : public ClientSession {
 public:
  RpcSession(std::shared_ptr<ClientConnection> connection, wire::Session::Client session)
      : connection_(std::move(connection)), session_(kj::mv(session)) {}
  ~RpcSession() noexcept override {}

  uint64_t append(const std::function<std::string()>& next, std::optional<uint64_t> offset,
                  const std::function<void(uint64_t)>& progress) override;
  GenerateResult generate(const GenerateParams& params,
                          const std::function<bool(const TextChunk&)>& chunk,
                          const std::function<bool()>& quiet) override;
  SessionInfo info() override;
  void wait_ingested(const std::function<void(const SessionInfo&)>& progress) override;

 private:
  void ask_position(wire::TextStream::Client& stream, Progress& progress);

  const std::shared_ptr<ClientConnection> connection_;
  wire::Session::Client session_;
};

uint64_t RpcSession::append(const std::function<std::string()>& next,
                            std::optional<uint64_t> offset,
                            const std::function<void(uint64_t)>& progress) {
  auto call = session_.appendRequest();
  if (offset) call.setOffset(*offset);
  auto stream = call.send().getStream();

  Progress position;
  uint64_t shown = 0;
  while (!position.failed) {
    const std::string text = next();
    if (text.empty()) break;
    for (size_t at = 0; at < text.size() && !position.failed; at += kPiece) {
      const auto piece = std::string_view(text).substr(at, kPiece);
      auto write = stream.writeRequest(capnp::MessageSize{piece.size() / 8 + 16, 0});
      write.setText(to_data(piece));
      connection_->wait(write.send());
      ask_position(stream, position);
      connection_->scope().poll();
      if (progress && position.bytes > shown) progress(shown = position.bytes);
    }
  }
  const auto end = connection_->wait(stream.endRequest().send());
  check(end);
  return end.getOffset();
}

void RpcSession::ask_position(wire::TextStream::Client& stream, Progress& progress) {
  if (progress.asking) return;
  progress.asking = true;
  progress.answer = stream.positionRequest()
                        .send()
                        .then([&progress](auto&& position) {
                          progress.bytes = position.getBytes();
                          progress.failed = position.getFailed();
                          progress.asking = false;
                        })
                        .eagerlyEvaluate([](kj::Exception&&) {});
}

GenerateResult RpcSession::generate(const GenerateParams& params,
                                    const std::function<bool(const TextChunk&)>& chunk,
                                    const std::function<bool()>& quiet) {
  auto inbox = std::make_shared<Inbox>();
  auto call = session_.generateRequest();
  write(params, call.initParams());
  call.setSink(kj::heap<InboxSink>(inbox));

  bool ended = false;
  auto result = call.send()
                    .then(
                        [&](auto&& results) {
                          ended = true;
                          inbox->ring();
                          return kj::mv(results);
                        },
                        [&](kj::Exception&& e) -> capnp::Response<wire::GenerateOutcome> {
                          ended = true;
                          inbox->ring();
                          kj::throwFatalException(kj::mv(e));
                        })
                    .eagerlyEvaluate(nullptr);
  kj::Promise<void> cancelled = nullptr;
  bool wanted = true;
  const auto cancel = [&] {
    wanted = false;
    cancelled =
        session_.cancelRequest().send().ignoreResult().eagerlyEvaluate([](kj::Exception&&) {});
  };
  while (!ended || !inbox->chunks.empty()) {
    if (inbox->chunks.empty()) {
      auto bell = kj::newPromiseAndFulfiller<bool>();
      inbox->wake = kj::mv(bell.fulfiller);
      auto late = connection_->timer().afterDelay(kQuiet).then([] { return false; });
      const bool rung = connection_->wait(bell.promise.exclusiveJoin(kj::mv(late)));
      if (!rung && wanted && quiet && !quiet()) cancel();
      continue;
    }
    // The caller's function runs outside the loop: it may use the client.
    auto arrived = std::move(inbox->chunks.front());
    inbox->chunks.pop_front();
    if (wanted && !chunk(arrived.chunk)) cancel();
    arrived.handled->fulfill();
  }
  const auto results = connection_->wait(kj::mv(result));
  check(results);
  return read(results.getResult());
}

SessionInfo RpcSession::info() {
  const auto results = connection_->wait(session_.infoRequest().send());
  check(results);
  return read(results.getInfo());
}

void RpcSession::wait_ingested(const std::function<void(const SessionInfo&)>& progress) {
  for (;;) {
    const SessionInfo now = info();
    if (progress) progress(now);
    if (now.state != "ingesting" && now.state != "restoring") return;
    connection_->wait(connection_->timer().afterDelay(kQuiet));
  }
}

}  // namespace

std::unique_ptr<ClientSession> make_session(std::shared_ptr<ClientConnection> connection,
                                            wire::Session::Client session) {
  return std::make_unique<RpcSession>(std::move(connection), kj::mv(session));
}

}  // namespace ringtide::protocol
