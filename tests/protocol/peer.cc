// A process to be killed by tests, and the server of the Python client's tests.
//
//   protocol_peer serve ADDRESS         a fake service; prints where it listens, ends with its
//   stdin protocol_peer generate ADDRESS NAME opens NAME and generates until it is killed
//   protocol_peer append ADDRESS NAME   opens NAME and appends until it is killed
//   protocol_peer list ADDRESS NAME     opens NAME and lists the sessions
//
// In the fake service a session whose name starts with "endless" generates "tide " until cancelled;
// one named "refused" cannot be opened.
#include <unistd.h>

#include <iostream>
#include <string>
#include <thread>

#include "protocol/client.h"
#include "protocol/server.h"
#include "tests/protocol/fake_service.h"

namespace ringtide::protocol {
namespace {

// Pushes one chunk when the last one is taken; never deeper than one call, whoever calls back.
void push_endlessly(std::shared_ptr<FakeService::Generation> generation,
                    std::shared_ptr<int64_t> count) {
  generation->sink->push({"tide ", {1}}, [generation, count](bool taken) {
    ++*count;
    if (taken && !generation->cancelled && *count < generation->params.max_tokens) {
      push_endlessly(generation, count);
    } else {
      GenerateResult result;
      result.reason = generation->cancelled ? FinishReason::Cancelled : FinishReason::MaxTokens;
      result.generated_tokens = *count;
      generation->done({}, result);
    }
  });
}

int serve(const std::string& address) {
  FakeService service;
  service.on_open = [](const OpenRequest& request) {
    if (request.name == "refused") return Outcome{Code::Overloaded, "no room; try later", 0};
    return Outcome{};
  };
  service.on_generate = [&](FakeService::State& state, auto generation) {
    if (state.info.name.rfind("endless", 0) == 0) {
      push_endlessly(std::move(generation), std::make_shared<int64_t>(0));
    } else {
      service.echo(state, *generation);
    }
  };
  Server server(address, service, {});
  std::cout << server.address() << std::endl;
  for (char c; read(STDIN_FILENO, &c, 1) == 1;) {
  }
  return 0;
}

int generate(ClientSession& session) {
  GenerateParams params;
  params.max_tokens = int64_t{1} << 60;
  session.generate(params, [](const TextChunk& chunk) {
    std::cout << chunk.text << std::endl;
    return true;
  });
  return 1;
}

int append(ClientSession& session) {
  session.append([]() { return std::string(1000, 'x'); }, std::nullopt, nullptr);
  return 1;
}

int run(const std::vector<std::string>& args) {
  if (args.size() == 2 && args[0] == "serve") return serve(args[1]);
  if (args.size() != 3) return 2;
  OpenRequest request;
  request.name = args[2];
  const auto client = Client::connect(args[1]);
  const auto session = client->open(request, nullptr, nullptr);
  if (args[0] == "list") return client->list().empty();
  return args[0] == "generate" ? generate(*session) : append(*session);
}

}  // namespace
}  // namespace ringtide::protocol

int main(int argc, char** argv) {
  try {
    return ringtide::protocol::run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
}
