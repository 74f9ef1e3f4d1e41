// A whole System over the fake engine and a real store, called the way a client would: each call
// waits for its answer.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/system.h"
#include "model/model.h"
#include "protocol/service.h"
#include "storage/store.h"
#include "tests/support/fake_engine.h"

namespace ringtide::testing {

// "word0 word1 ... ".
std::string words(int count);

// What a generation brought.
struct Said {
  protocol::Outcome outcome;
  protocol::GenerateResult result;
  std::string text;
  std::vector<int32_t> tokens;
};

// A client's end of a generation. Takes every chunk at once unless told to hold them.
class Listener : public protocol::TextSink {
 public:
  explicit Listener(bool holds = false) : holds_(holds) {}
  void push(protocol::TextChunk chunk, std::function<void(bool)> taken) override;
  // Takes, or refuses, all that is held and all that comes.
  void release(bool alive);
  // Waits until that many tokens have come.
  void wait_for_tokens(size_t count);
  std::string text() const;
  std::vector<int32_t> tokens() const;
  size_t most_outstanding() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool holds_;
  bool alive_ = true;
  std::vector<std::function<void(bool)>> held_;
  std::string text_;
  std::vector<int32_t> tokens_;
  size_t outstanding_ = 0, most_ = 0;
};

// An answer that is waited for, once.
template <class T>
class Awaited {
 public:
  void set(T value);
  T get();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> value_;
};

struct Opened {
  protocol::Outcome outcome;
  std::shared_ptr<protocol::SessionHandle> handle;
  protocol::SessionInfo info;
  bool created = false;
};

// A generation that runs while the test does something else.
struct Speaking {
  std::shared_ptr<Listener> listener;
  std::function<void()> cancel;
  std::shared_ptr<Awaited<Said>> ended;
  Said wait();
};

class SystemTest : public ::testing::Test {
 protected:
  SystemTest();
  ~SystemTest() override;

  // -- the house ----
  void start();
  void stop();
  void restart() { stop(), start(); }
  protocol::Service& service() { return system_->service(); }

  // -- sessions ----
  Opened open(const std::string& name, bool must_exist = false);
  Opened open(const protocol::OpenRequest& request);
  std::shared_ptr<protocol::SessionHandle> session(const std::string& name);  // REQUIRES: it opens
  protocol::Outcome append(protocol::SessionHandle& s, const std::string& text,
                           std::optional<uint64_t> offset = {});
  Speaking begin(protocol::SessionHandle& s, const protocol::GenerateParams& params,
                 std::shared_ptr<Listener> listener = std::make_shared<Listener>());
  Said generate(protocol::SessionHandle& s, int64_t max_tokens = 24);
  Said generate(protocol::SessionHandle& s, const protocol::GenerateParams& params);
  protocol::SessionInfo info(protocol::SessionHandle& s);
  // Keeps the engine, which is faster than any disk, from running ahead of what a session's client
  // has heard: its generation never pauses for it.
  void keep_step(protocol::SessionHandle& s, const std::shared_ptr<Listener>& listener);
  protocol::Outcome remove(const std::string& name);
  std::vector<protocol::SessionInfo> list();

  std::string path;  // of the store
  FakeWorld world;
  protocol::Policy policy;  // default of the server
  std::string chat_template =
      "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  std::string fingerprint = "00000000000000000000000000000001";
  int max_sessions = 64;
  int64_t max_queued_bytes = 1 << 20;
  // Between the system and its store, when set.
  std::function<std::unique_ptr<storage::Store>(std::unique_ptr<storage::Store>)> wrap_store;

 private:
  std::unique_ptr<actors::System> system_;
};

// -- templates ----

template <class T>
void Awaited<T>::set(T value) {
  const std::lock_guard lock(mutex_);
  value_ = std::move(value);
  changed_.notify_all();
}

template <class T>
T Awaited<T>::get() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::minutes(2), [&] { return value_.has_value(); })) {
    ADD_FAILURE() << "no answer within two minutes";
    return {};
  }
  return std::move(*value_);
}

}  // namespace ringtide::testing
