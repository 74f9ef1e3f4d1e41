#include "tests/support/system_fixture.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <utility>

#include "tests/support/fake_tokenizer.h"

namespace ringtide::testing {

// -- Listener ----

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "word" + std::to_string(i) + " ";
  return text;
}

void Listener::push(protocol::TextChunk chunk, std::function<void(bool)> taken) {
  bool alive = true;
  {
    const std::lock_guard lock(mutex_);
    text_ += chunk.text;
    tokens_.insert(tokens_.end(), chunk.tokens.begin(), chunk.tokens.end());
    outstanding_ += chunk.tokens.size();
    most_ = std::max(most_, outstanding_);
    changed_.notify_all();
    if (holds_) {
      held_.push_back(std::move(taken));
      return;
    }
    outstanding_ -= chunk.tokens.size();
    alive = alive_;
  }
  taken(alive);
}

void Listener::release(bool alive) {
  std::vector<std::function<void(bool)>> held;
  {
    const std::lock_guard lock(mutex_);
    holds_ = false;
    alive_ = alive;
    outstanding_ = 0;
    held.swap(held_);
  }
  for (const auto& taken : held) taken(alive);
}

void Listener::wait_for_tokens(size_t count) {
  std::unique_lock lock(mutex_);
  EXPECT_TRUE(
      changed_.wait_for(lock, std::chrono::minutes(2), [&] { return tokens_.size() >= count; }));
}

std::string Listener::text() const {
  const std::lock_guard lock(mutex_);
  return text_;
}

std::vector<int32_t> Listener::tokens() const {
  const std::lock_guard lock(mutex_);
  return tokens_;
}

size_t Listener::most_outstanding() const {
  const std::lock_guard lock(mutex_);
  return most_;
}

Said Speaking::wait() {
  Said said = ended->get();
  said.text = listener->text();
  said.tokens = listener->tokens();
  return said;
}

// -- SystemTest ----

SystemTest::SystemTest() {
  static std::atomic<int> count{0};
  path = (std::filesystem::temp_directory_path() /
          ("ringtide-actors-" + std::to_string(::getpid()) + "-" + std::to_string(count++)))
             .string();
  std::filesystem::remove_all(path);
  policy = {.name = "infllm",
            .window = 256,
            .sinks = 16,
            .unit = 16,
            .block = 64,
            .select = 4,
            .representatives = 2,
            .vote = ""};
}

SystemTest::~SystemTest() {
  stop();
  std::filesystem::remove_all(path);
}

void SystemTest::start() {
  static const auto tokenizer = std::make_shared<const FakeTokenizer>();
  auto model = std::make_shared<model::Model>();
  model->config.name = "fake";
  model->config.trained_context = 256;
  model->fingerprint = fingerprint;
  model->chat_template = chat_template;
  model->tokenizer = tokenizer;

  storage::StoreOptions store_options;
  store_options.fingerprint = fingerprint;
  auto store = storage::Store::open(path, store_options);
  ASSERT_TRUE(store.ok()) << store.status().message();

  actors::SystemOptions options;
  options.model = std::move(model);
  options.store = wrap_store ? wrap_store(std::move(store.value())) : std::move(store.value());
  options.make_engine = [this](model::UnitStore& units) { return world.make(&units); };
  options.version = "test";
  options.store_path = path;
  options.default_policy = policy;
  options.max_sessions = max_sessions;
  options.max_queued_bytes = max_queued_bytes;
  system_ = std::make_unique<actors::System>(std::move(options));
}

void SystemTest::stop() { system_.reset(); }

Opened SystemTest::open(const std::string& name, bool must_exist) {
  protocol::OpenRequest request;
  request.name = name;
  request.must_exist = must_exist;
  return open(request);
}

Opened SystemTest::open(const protocol::OpenRequest& request) {
  auto answer = std::make_shared<Awaited<Opened>>();
  service().open(request, [answer](protocol::Outcome outcome, auto handle,
                                   protocol::SessionInfo info, bool created) {
    answer->set({std::move(outcome), std::move(handle), std::move(info), created});
  });
  return answer->get();
}

std::shared_ptr<protocol::SessionHandle> SystemTest::session(const std::string& name) {
  Opened opened = open(name);
  EXPECT_TRUE(opened.outcome.ok()) << opened.outcome.message;
  return opened.handle;
}

protocol::Outcome SystemTest::append(protocol::SessionHandle& s, const std::string& text,
                                     std::optional<uint64_t> offset) {
  auto answer = std::make_shared<Awaited<protocol::Outcome>>();
  s.append(
      text, offset, [](protocol::Outcome) {},
      [answer](protocol::Outcome outcome, uint64_t held) {
        if (outcome.ok()) outcome.offset = held;
        answer->set(std::move(outcome));
      });
  return answer->get();
}

Speaking SystemTest::begin(protocol::SessionHandle& s, const protocol::GenerateParams& params,
                           std::shared_ptr<Listener> listener) {
  Speaking speaking;
  speaking.listener = listener;
  speaking.ended = std::make_shared<Awaited<Said>>();
  speaking.cancel = s.generate(
      params, listener,
      [ended = speaking.ended](protocol::Outcome outcome, protocol::GenerateResult result) {
        ended->set({std::move(outcome), result, {}, {}});
      });
  return speaking;
}

Said SystemTest::generate(protocol::SessionHandle& s, int64_t max_tokens) {
  protocol::GenerateParams params;
  params.max_tokens = max_tokens;
  return generate(s, params);
}

Said SystemTest::generate(protocol::SessionHandle& s, const protocol::GenerateParams& params) {
  return begin(s, params).wait();
}

protocol::SessionInfo SystemTest::info(protocol::SessionHandle& s) {
  auto answer = std::make_shared<Awaited<protocol::SessionInfo>>();
  s.info([answer](protocol::Outcome outcome, protocol::SessionInfo info) {
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    answer->set(std::move(info));
  });
  return answer->get();
}

void SystemTest::keep_step(protocol::SessionHandle& s, const std::shared_ptr<Listener>& listener) {
  constexpr size_t kAhead = 8;
  auto steps = std::make_shared<std::atomic<size_t>>(0);
  world.before_pass([id = info(s).id, steps, listener](const FakePass& pass) {
    if (pass.kind != FakePass::Kind::Decode) return;
    if (std::count(pass.contexts.begin(), pass.contexts.end(), id) == 0) return;
    if (const size_t step = ++*steps; step > kAhead) listener->wait_for_tokens(step - kAhead);
  });
}

protocol::Outcome SystemTest::remove(const std::string& name) {
  auto answer = std::make_shared<Awaited<protocol::Outcome>>();
  service().remove(name, 0, [answer](protocol::Outcome outcome) { answer->set(outcome); });
  return answer->get();
}

std::vector<protocol::SessionInfo> SystemTest::list() {
  auto answer = std::make_shared<Awaited<std::vector<protocol::SessionInfo>>>();
  service().list([answer](protocol::Outcome outcome, std::vector<protocol::SessionInfo> infos) {
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    answer->set(std::move(infos));
  });
  return answer->get();
}

}  // namespace ringtide::testing
