#include "protocol/loop.h"

#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <thread>

namespace ringtide::protocol {
namespace {

class LoopTest : public testing::Test {
 protected:
  ~LoopTest() noexcept override {}

  kj::AsyncIoContext io_ = kj::setupAsyncIo();
  std::shared_ptr<Post> post_ = std::make_shared<Post>();
};

TEST_F(LoopTest, PostsFromManyThreadsRunOnTheLoopInTheirOrder) {
  constexpr int kThreads = 4, kEach = 10'000;
  auto all = kj::newPromiseAndFulfiller<void>();
  auto running = post_->run().eagerlyEvaluate(nullptr);
  std::vector<int> last(kThreads, -1);
  int left = kThreads * kEach;
  bool ordered = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t]() {
      for (int i = 0; i < kEach; ++i) {
        post_->post([&, t, i]() {
          ordered = ordered && last[t] == i - 1;
          last[t] = i;
          if (--left == 0) all.fulfiller->fulfill();
        });
      }
    });
  }
  all.promise.wait(io_.waitScope);
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(ordered);
}

TEST_F(LoopTest, CloseRunsWhatIsLeftAndRefusesTheRest) {
  int ran = 0;
  EXPECT_TRUE(post_->post([&]() {
    ++ran;
    EXPECT_FALSE(post_->post([&]() { ++ran; }));
  }));
  post_->close();
  EXPECT_EQ(ran, 1);
  EXPECT_FALSE(post_->post([&]() { ++ran; }));
  EXPECT_EQ(ran, 1);
}

TEST_F(LoopTest, AnAnswerComesFromAnotherThread) {
  auto question = ask<int, std::string>();
  std::thread other([reply = question.reply]() { reply(7, "seven"); });
  const auto [number, text] = question.answer.wait(io_.waitScope);
  EXPECT_EQ(number, 7);
  EXPECT_EQ(text, "seven");
  other.join();
}

TEST_F(LoopTest, OnlyTheFirstAnswerCounts) {
  auto question = ask<int>();
  question.reply(1);
  question.reply(2);
  EXPECT_EQ(std::get<0>(question.answer.wait(io_.waitScope)), 1);
}

TEST_F(LoopTest, AQuestionDroppedUnansweredFails) {
  auto question = ask<int>();
  std::thread other([reply = std::move(question.reply)]() {});
  question.reply = nullptr;
  EXPECT_THROW(question.answer.wait(io_.waitScope), kj::Exception);
  other.join();
}

TEST_F(LoopTest, AnAnswerAfterTheLoopIsHarmless) {
  std::function<void(int)> reply;
  std::thread other([&]() {
    auto io = kj::setupAsyncIo();
    reply = ask<int>().reply;
  });
  other.join();
  reply(1);
}

}  // namespace
}  // namespace ringtide::protocol
