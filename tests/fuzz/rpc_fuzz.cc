// Bytes as a client's end of a connection: whatever comes, the server neither crashes, leaks nor
// hangs, and lets go of every session.
//
// The first byte cuts the rest into pieces, so that messages also arrive in parts.
#include <kj/async-io.h>
#include <kj/debug.h>

#include <cstdlib>
#include <string>

#include "protocol/connection.h"
#include "tests/protocol/fake_service.h"

namespace ringtide::protocol {
namespace {

constexpr int kSessions = 8;

void feed(const uint8_t* data, size_t size) {
  static auto io = kj::setupAsyncIo();
  FakeService service;
  service.on_open = [&](const OpenRequest& request) {
    const bool full = service.sessions.size() >= kSessions && !service.sessions.count(request.name);
    return full ? Outcome{Code::Overloaded, "full", 0} : Outcome{};
  };
  auto post = std::make_shared<Post>();
  {
    ServerLimits limits;
    limits.max_message_bytes = 64 << 10;
    limits.max_queued_bytes = 4 << 10;
    auto posted = post->run().eagerlyEvaluate(nullptr);
    auto pipe = kj::newTwoWayPipe();
    auto connection = kj::heap<Connection>(kj::mv(pipe.ends[0]), service, post, limits);
    auto closed = connection->closed(io.provider->getTimer()).eagerlyEvaluate(nullptr);
    auto answers =
        pipe.ends[1]->readAllBytes().ignoreResult().eagerlyEvaluate([](kj::Exception&&) {});
    const size_t piece = size == 0 || data[0] == 0 ? size : data[0];
    for (size_t at = 1; at < size; at += piece) {
      auto sent =
          pipe.ends[1]->write(data + at, std::min(piece, size - at)).catch_([](kj::Exception&&) {});
      if (!sent.poll(io.waitScope)) break;
    }
    io.waitScope.poll();
    pipe.ends[1]->shutdownWrite();
    io.waitScope.poll();
  }
  post->close();
  for (const auto& [name, state] : service.sessions) {
    if (state.attached != 0) abort();
  }
}

}  // namespace
}  // namespace ringtide::protocol

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  kj::_::Debug::setLogLevel(kj::LogSeverity::FATAL);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ringtide::protocol::feed(data, size);
  return 0;
}
