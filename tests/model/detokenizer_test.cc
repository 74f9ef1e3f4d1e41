#include <gtest/gtest.h>

#include "model/utf8.h"
#include "tests/model/text_fixture.h"

namespace ringtide::model {
namespace {

// The first 256 tokens of the small vocabulary are the bytes.
class DetokenizerTest : public ::testing::Test {
 protected:
  std::vector<std::string> push(std::string_view bytes) {
    std::vector<std::string> out;
    for (const char c : bytes) out.push_back(detokenizer_.push(static_cast<uint8_t>(c)));
    return out;
  }
  SmallVocabulary vocabulary_;
  std::shared_ptr<const Tokenizer> tokenizer_ = vocabulary_.make();
  Detokenizer detokenizer_{tokenizer_};
};

using Texts = std::vector<std::string>;

TEST_F(DetokenizerTest, CharactersComeWholeWithTheirLastByte) {
  EXPECT_EQ(push("a€🙂"), (Texts{"a", "", "", "€", "", "", "", "🙂"}));
  EXPECT_EQ(detokenizer_.finish(), "");
}

TEST_F(DetokenizerTest, BrokenBytesAreReplacedAtOnce) {
  EXPECT_EQ(push("\xff"), Texts{"\uFFFD"});
  EXPECT_EQ(push("\xe2\x82z"), (Texts{"", "", "\uFFFDz"}));
  EXPECT_EQ(push("\xe2\xff"), (Texts{"", "\uFFFD\uFFFD"}));
  EXPECT_EQ(push("\xed\xa0"), (Texts{"", "\uFFFD\uFFFD"})) << "a surrogate";
  EXPECT_EQ(push("\xc0\x80"), (Texts{"\uFFFD", "\uFFFD"})) << "overlong";
  EXPECT_EQ(push("\xf0\x9f\xe2\x82\xac"), (Texts{"", "", "\uFFFD", "", "€"}));
}

TEST_F(DetokenizerTest, WhatIsHeldAtTheEndIsReplaced) {
  push("\xf0\x9f\x99");
  EXPECT_EQ(detokenizer_.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer_.finish(), "");
  EXPECT_EQ(push("a"), Texts{"a"});
}

TEST_F(DetokenizerTest, SpecialTokensHaveNoText) {
  EXPECT_EQ(detokenizer_.push(tokenizer_->special("<|im_end|>")), "");
  EXPECT_EQ(detokenizer_.push(-5), "");
  EXPECT_EQ(detokenizer_.push(1 << 30), "");
}

TEST(Detokenizer, TheSpaceBeforeATextIsNotShown) {
  SpaceVocabulary vocabulary({"a", "▁a", "▁▁"});
  const auto tokenizer = vocabulary.make();
  const auto shown = [&](std::string_view text, TextAt at) {
    Detokenizer detokenizer(tokenizer, at);
    std::string out = detokenizer.push(tokenizer->special("<s>"));
    for (const TokenId token : tokenizer->encode(text)) out += detokenizer.push(token);
    return out;
  };
  EXPECT_EQ(shown("a a", TextAt::Start), "a a");
  EXPECT_EQ(shown(" a", TextAt::Start), " a");
  EXPECT_EQ(shown("a a", TextAt::Inside), " a a");
}

TEST_F(DetokenizerTest, EveryTextComesBack) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 500; ++round) {
    const std::string text = nasty_text(random, random() % 20);
    std::string out;
    for (const TokenId token : tokenizer_->encode(text)) {
      const std::string now = detokenizer_.push(token);
      ASSERT_EQ(utf8_valid_prefix(now), now.size());
      out += now;
    }
    out += detokenizer_.finish();
    ASSERT_EQ(utf8_valid_prefix(out), out.size());
    if (utf8_valid_prefix(text) == text.size()) {
      ASSERT_EQ(out, text);
    }
  }
}

}  // namespace
}  // namespace ringtide::model
