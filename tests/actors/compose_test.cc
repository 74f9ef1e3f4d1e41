#include "actors/compose.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/support/fake_tokenizer.h"

namespace ringtide::actors {
namespace {

using model::ChatTemplate;
using model::TokenId;
using protocol::FinishReason;
using testing::FakeTokenizer;
using testing::kBos;
using testing::kTurnEnd;
using testing::kTurnStart;

std::vector<int32_t> operator+(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class ComposeTest : public ::testing::Test {
 protected:
  // A session's records, applied as they are composed.
  std::vector<int32_t> append(const Writing& w, const std::string& text) {
    auto record = compose_append(w, state, text);
    state.apply(record);
    return record.tokens;
  }
  std::vector<int32_t> begin(const Writing& w) {
    auto record = compose_began(w, state, {});
    state.apply(record);
    return record.tokens;
  }
  std::vector<int32_t> end(const Writing& w) {
    auto record = compose_ended(w, state, FinishReason::EndOfTurn);
    state.apply(record);
    return record.tokens;
  }
  void generated(std::vector<int32_t> tokens) { state.apply(storage::Generated{tokens}); }

  std::shared_ptr<const FakeTokenizer> tokenizer = std::make_shared<const FakeTokenizer>();
  std::shared_ptr<const ChatTemplate> chat = ChatTemplate::make("chatml", "", tokenizer);
  Writing chatting{*tokenizer, chat.get(), "be kind"};
  Writing raw{*tokenizer, nullptr, ""};
  TurnState state;
};

TEST_F(ComposeTest, ChatWritesTheBeginningOnceAndEachTurnAround) {
  const auto text = [&](const std::string& t) { return tokenizer->encode(t); };
  const auto first = append(chatting, "one two");
  EXPECT_EQ(first, chat->begin("be kind").tokens + text("one"));
  EXPECT_EQ(state.tail, " two");
  EXPECT_EQ(append(chatting, "o three"), text(" twoo"));
  EXPECT_EQ(begin(chatting), text(" three") + chat->answer());
  generated({10, kTurnEnd});
  const auto close = chat->end();
  EXPECT_EQ(close.front(), kTurnEnd);
  EXPECT_EQ(end(chatting), std::vector<int32_t>(close.begin() + 1, close.end()));
  EXPECT_EQ(append(chatting, "next "), chat->next_user().tokens + text("next"));
  EXPECT_EQ(state.offset, std::string("one twoo threenext ").size());
}

TEST_F(ComposeTest, AnAnswerCutShortIsClosedWhole) {
  append(chatting, "hello ");
  begin(chatting);
  generated({10, 11});
  EXPECT_EQ(end(chatting), chat->end());
  append(chatting, "again ");
  begin(chatting);
  EXPECT_EQ(end(chatting), chat->end());  // nothing was generated at all
}

TEST_F(ComposeTest, RawWritesTextAndNothingElse) {
  EXPECT_EQ(append(raw, "ab"), std::vector<int32_t>{kBos});
  EXPECT_EQ(append(raw, "cd ef"), tokenizer->encode("abcd"));
  EXPECT_EQ(begin(raw), tokenizer->encode(" ef"));
  generated({10});
  EXPECT_TRUE(end(raw).empty());
  EXPECT_TRUE(begin(raw).empty());  // it goes on where it was
}

TEST_F(ComposeTest, TokensDoNotDependOnHowTextIsCut) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "wörd" + std::to_string(i * i) + (i % 7 ? " " : "  ");
  std::vector<int32_t> whole;
  for (const size_t cut : {text.size(), size_t{1}, size_t{7}, size_t{512}}) {
    state = {};
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < text.size(); i += cut) {
      tokens = tokens + append(chatting, text.substr(i, cut));
    }
    tokens = tokens + begin(chatting);
    if (whole.empty()) whole = tokens;
    EXPECT_EQ(tokens, whole) << "in pieces of " << cut;
  }
}

// A tokenizer that puts a space before texts does so once a turn, however the text arrives.
class SpacedTokenizer : public FakeTokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, model::TextAt at) const override {
    const bool space = at == model::TextAt::Start && !text.empty();
    return FakeTokenizer::encode((space ? " " : "") + std::string(text), at);
  }
  Stable encode_stable(std::string_view text, model::TextAt at) const override {
    Stable stable = FakeTokenizer::encode_stable(text, at);
    if (stable.bytes > 0) stable.tokens = encode(text.substr(0, stable.bytes), at);
    return stable;
  }
  bool space_prefix() const override { return true; }
};

TEST_F(ComposeTest, ATextStartsOnce) {
  const SpacedTokenizer spaced;
  const auto text = [&](const std::string& t) { return FakeTokenizer().encode(t); };
  const Writing w{spaced, nullptr, ""};
  EXPECT_EQ(append(w, "ab"), std::vector<int32_t>{kBos});
  EXPECT_EQ(append(w, "c de"), text(" abc"));
  EXPECT_EQ(append(w, "f g"), text(" def"));
  EXPECT_EQ(begin(w), text(" g"));
  generated({10});
  EXPECT_EQ(append(w, "h i"), text("h")) << "what was generated goes on";
  state = {};
  EXPECT_EQ(append(w, "ab"), std::vector<int32_t>{kBos});
  EXPECT_EQ(begin(w), text(" ab"));
}

TEST_F(ComposeTest, SaysWhyGenerationCannotBegin) {
  EXPECT_NE(cannot_begin(raw, state), "");
  EXPECT_NE(cannot_begin(chatting, state), "");
  append(chatting, "hello");
  EXPECT_EQ(cannot_begin(chatting, state), "");
  begin(chatting);
  end(chatting);
  EXPECT_NE(cannot_begin(chatting, state), "");
  EXPECT_EQ(cannot_begin(raw, state), "");
}

TEST_F(ComposeTest, RefusesParametersThatCannotBe) {
  using P = protocol::GenerateParams;
  EXPECT_EQ(invalid(P{}), "");
  const auto refused = [](auto change) {
    P params;
    change(params);
    return !invalid(params).empty();
  };
  EXPECT_TRUE(refused([](P& p) { p.max_tokens = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.temperature = -1; }));
  EXPECT_TRUE(refused([](P& p) { p.temperature = std::numeric_limits<float>::quiet_NaN(); }));
  EXPECT_TRUE(refused([](P& p) { p.top_p = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.top_p = std::numeric_limits<float>::quiet_NaN(); }));
  EXPECT_TRUE(refused([](P& p) { p.min_p = 2; }));
  EXPECT_TRUE(refused([](P& p) { p.repetition_penalty = 0; }));
  EXPECT_TRUE(refused([](P& p) { p.top_k = -1; }));
  EXPECT_TRUE(refused([](P& p) { p.penalty_window = -1; }));
  EXPECT_TRUE(refused([](P& p) { p.stop = {""}; }));
  EXPECT_TRUE(refused([](P& p) { p.stop = std::vector<std::string>(17, "x"); }));
}

}  // namespace
}  // namespace ringtide::actors
