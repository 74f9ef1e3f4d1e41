#include "tests/protocol/fake_service.h"

#include <sstream>
#include <utility>

namespace ringtide::protocol {

class FakeSession final : public SessionHandle {
 public:
  FakeSession(FakeService& service, FakeService::State& state) : service_(service), state_(state) {}
  ~FakeSession() override {
    service_.happen([this]() { --state_.attached; });
  }

  void append(std::string text, std::optional<uint64_t> offset,
              std::function<void(Outcome)> accepted, Reply<uint64_t> durable) override {
    FakeService::Append append{std::move(text), offset, std::move(accepted), std::move(durable)};
    if (service_.on_append) return service_.on_append(state_, std::move(append));
    service_.happen([&]() { FakeService::log(state_, std::move(append)); });
  }

  std::function<void()> generate(const GenerateParams& params, std::shared_ptr<TextSink> sink,
                                 Reply<GenerateResult> done) override {
    auto generation = std::make_shared<FakeService::Generation>();
    generation->params = params;
    generation->sink = std::move(sink);
    generation->done = std::move(done);
    service_.happen([&]() { state_.generation = generation; });
    auto cancel = [this, &service = service_, generation]() {
      service.happen([&]() { generation->cancelled = true; });
    };
    if (service_.on_generate) {
      service_.on_generate(state_, std::move(generation));
    } else {
      service_.echo(state_, *generation);
    }
    return cancel;
  }

  void info(Reply<SessionInfo> reply) override { reply(service_.refuse, state_.info); }

 private:
  FakeService& service_;
  FakeService::State& state_;
};

void FakeService::open(
    const OpenRequest& request,
    std::function<void(Outcome, std::shared_ptr<SessionHandle>, SessionInfo, bool)> reply) {
  if (on_open) {
    const Outcome outcome = on_open(request);
    if (!outcome.ok()) return reply(outcome, nullptr, {}, false);
  }
  std::shared_ptr<SessionHandle> handle;
  SessionInfo info;
  bool created = false;
  happen([&]() {
    last_open = request;
    State* state = find(request.name, request.id);
    if (state == nullptr && (request.must_exist || request.id != 0)) return;
    if (state == nullptr) {
      created = true;
      state = &sessions[request.name];
      state->info.name = request.name;
      state->info.id = next_id_++;
      state->info.state = "idle";
      state->info.policy = request.policy.name;
      state->info.template_family = request.template_family;
    }
    ++state->attached;
    handle = std::make_shared<FakeSession>(*this, *state);
    info = state->info;
  });
  if (!handle) return reply({Code::NotFound, "no session " + request.name, 0}, nullptr, {}, false);
  reply({}, std::move(handle), info, created);
}

void FakeService::list(Reply<std::vector<SessionInfo>> reply) {
  if (on_list) return on_list(std::move(reply));
  std::vector<SessionInfo> infos;
  happen([&]() {
    for (const auto& [name, state] : sessions) infos.push_back(state.info);
  });
  reply(refuse, std::move(infos));
}

void FakeService::info(const std::string& name, uint64_t id, Reply<SessionInfo> reply) {
  SessionInfo info;
  Outcome outcome = refuse;
  happen([&]() {
    if (const State* state = find(name, id)) {
      info = state->info;
    } else {
      outcome = {Code::NotFound, "no session " + name, 0};
    }
  });
  reply(outcome, info);
}

void FakeService::remove(const std::string& name, uint64_t id, std::function<void(Outcome)> reply) {
  Outcome outcome = refuse;
  happen([&]() {
    const State* state = find(name, id);
    if (state == nullptr) {
      outcome = {Code::NotFound, "no session " + name, 0};
    } else if (state->attached > 0) {
      outcome = {Code::Busy, "the session is open", 0};
    } else {
      sessions.erase(state->info.name);
    }
  });
  reply(outcome);
}

void FakeService::tokenize(std::string text,
                           Reply<std::vector<std::pair<int32_t, std::string>>> reply) {
  std::vector<std::pair<int32_t, std::string>> tokens;
  for (const char byte : text) {
    tokens.emplace_back(static_cast<unsigned char>(byte), std::string(1, byte));
  }
  reply(refuse, std::move(tokens));
}

void FakeService::server(Reply<ServerInfo> reply) {
  ServerInfo info;
  info.version = "1.2.3";
  info.model = "fake";
  info.threads = 2;
  reply(refuse, info);
}

void FakeService::until(const std::function<bool()>& condition) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, condition);
}

void FakeService::happen(const std::function<void()>& change) {
  std::lock_guard<std::mutex> lock(mutex_);
  change();
  changed_.notify_all();
}

void FakeService::log(State& state, Append append) {
  if (append.offset && *append.offset != state.text.size()) {
    const Outcome wrong{Code::OffsetMismatch, "wrong offset", state.text.size()};
    append.accepted(wrong);
    append.durable(wrong, 0);
    return;
  }
  state.text += append.text;
  state.info.appended_bytes = state.text.size();
  append.accepted({});
  append.durable({}, state.text.size());
}

void FakeService::echo(const State& state, Generation& generation) {
  std::istringstream words(state.text);
  GenerateResult result;
  result.reason = FinishReason::EndOfTurn;
  for (std::string word; words >> word && result.generated_tokens < generation.params.max_tokens;
       ++result.generated_tokens) {
    generation.sink->push({word + " ", {static_cast<int32_t>(word.size())}}, [](bool) {});
  }
  generation.done({}, result);
}

FakeService::State* FakeService::find(const std::string& name, uint64_t id) {
  for (auto& [key, state] : sessions) {
    if (id != 0 ? state.info.id == id : key == name) return &state;
  }
  return nullptr;
}

}  // namespace ringtide::protocol
