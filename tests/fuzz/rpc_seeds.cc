// Writes the seed corpus of rpc_fuzz: what real clients say in a few conversations, recorded.
//
//   rpc_seeds FOLDER
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <fstream>
#include <iostream>
#include <string>

#include "protocol/connection.h"
#include "tests/protocol/fake_service.h"

namespace ringtide::protocol {
namespace {

// Passes everything on, and keeps what was written.
class Recorder final : public kj::AsyncIoStream {
 public:
  explicit Recorder(kj::Own<kj::AsyncIoStream> inner) : inner_(kj::mv(inner)) {}
  kj::Promise<size_t> tryRead(void* buffer, size_t min, size_t max) override {
    return inner_->tryRead(buffer, min, max);
  }
  kj::Promise<void> write(const void* buffer, size_t size) override {
    written.append(static_cast<const char*>(buffer), size);
    return inner_->write(buffer, size);
  }
  kj::Promise<void> write(kj::ArrayPtr<const kj::ArrayPtr<const kj::byte>> pieces) override {
    for (const auto piece : pieces) {
      written.append(reinterpret_cast<const char*>(piece.begin()), piece.size());
    }
    return inner_->write(pieces);
  }
  kj::Promise<void> whenWriteDisconnected() override { return inner_->whenWriteDisconnected(); }
  void shutdownWrite() override { inner_->shutdownWrite(); }

  std::string written;

 private:
  kj::Own<kj::AsyncIoStream> inner_;
};

class Sink final : public wire::TextSink::Server {
  kj::Promise<void> chunk(ChunkContext) override { return kj::READY_NOW; }
  kj::Promise<void> done(DoneContext) override { return kj::READY_NOW; }
};

using Talk = std::function<void(wire::Ringtide::Client, kj::WaitScope&)>;

wire::Session::Client open(wire::Ringtide::Client& server, kj::WaitScope& scope) {
  auto call = server.openRequest();
  call.initSession().setName("a");
  call.initPolicy().setName("infllm");
  call.getSystem().setText("Be kind.");
  return call.send().wait(scope).getOpened().getSession();
}

void append(wire::Session::Client& session, kj::WaitScope& scope) {
  auto call = session.appendRequest();
  call.setOffset(0);
  auto stream = call.send().getStream();
  for (const char* text : {"the tide ", "goes out"}) {
    auto write = stream.writeRequest();
    write.setText(to_data(text));
    write.send().wait(scope);
  }
  stream.positionRequest().send().wait(scope);
  stream.endRequest().send().wait(scope);
}

const std::pair<const char*, Talk> kTalks[] = {
    {"questions",
     [](wire::Ringtide::Client server, kj::WaitScope& scope) {
       server.listRequest().send().wait(scope);
       server.serverRequest().send().wait(scope);
       auto info = server.infoRequest();
       info.initSession().setName("a");
       info.send().wait(scope);
       auto remove = server.removeRequest();
       remove.initSession().setId(1);
       remove.send().wait(scope);
       auto tokenize = server.tokenizeRequest();
       tokenize.setText(to_data("t\xff"));
       tokenize.send().wait(scope);
     }},
    {"open", [](wire::Ringtide::Client server,
                kj::WaitScope& scope) { open(server, scope).infoRequest().send().wait(scope); }},
    {"append",
     [](wire::Ringtide::Client server, kj::WaitScope& scope) {
       auto session = open(server, scope);
       append(session, scope);
     }},
    {"generate",
     [](wire::Ringtide::Client server, kj::WaitScope& scope) {
       auto session = open(server, scope);
       append(session, scope);
       auto call = session.generateRequest();
       call.initParams().initStop(1).set(0, "end");
       call.setSink(kj::heap<Sink>());
       call.send().wait(scope);
     }},
    {"cancel",
     [](wire::Ringtide::Client server, kj::WaitScope& scope) {
       auto session = open(server, scope);
       auto call = session.generateRequest();
       call.setSink(kj::heap<Sink>());
       auto dropped = call.send();
       session.cancelRequest().send().wait(scope);
     }},
};

std::string record(const Talk& talk, kj::AsyncIoContext& io) {
  FakeService service;
  auto post = std::make_shared<Post>();
  auto posted = post->run().eagerlyEvaluate(nullptr);
  auto pipe = kj::newTwoWayPipe();
  Connection connection(kj::mv(pipe.ends[0]), service, post, {});
  Recorder recorder(kj::mv(pipe.ends[1]));
  capnp::TwoPartyVatNetwork network(recorder, capnp::rpc::twoparty::Side::CLIENT);
  auto rpc = capnp::makeRpcClient(network);
  capnp::MallocMessageBuilder message;
  auto vat = message.initRoot<capnp::rpc::twoparty::VatId>();
  vat.setSide(capnp::rpc::twoparty::Side::SERVER);
  talk(rpc.bootstrap(vat).castAs<wire::Ringtide>(), io.waitScope);
  io.waitScope.poll();
  return recorder.written;
}

int run(const std::string& folder) {
  auto io = kj::setupAsyncIo();
  const auto save = [&](const std::string& name, char cut, const std::string& bytes) {
    std::ofstream(folder + "/" + name, std::ios::binary) << cut << bytes;
  };
  for (const auto& [name, talk] : kTalks) save(name, 0, record(talk, io));
  save("pieces", 13, record(kTalks[3].second, io));
  save("http", 0, "GET / HTTP/1.1\r\nHost: tide\r\n\r\n");
  save("large_header", 3, std::string("\0\0\0\0\0\0\x40\x06", 8));
  return 0;
}

}  // namespace
}  // namespace ringtide::protocol

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: rpc_seeds FOLDER\n";
    return 2;
  }
  return ringtide::protocol::run(argv[1]);
}
