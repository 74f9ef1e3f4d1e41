#include "actors/answer_text.h"

#include <gtest/gtest.h>

#include "tests/support/fake_tokenizer.h"

namespace ringtide::actors {
namespace {

using testing::FakeTokenizer;

// What is shown after each byte of `said`, then at the end, with "|" between.
std::string shown(const std::string& said, std::vector<std::string> stops) {
  AnswerText text(std::make_shared<const FakeTokenizer>(), std::move(stops));
  std::string all;
  for (const char c : said) all += text.push(static_cast<unsigned char>(c)) + "|";
  return all + text.finish();
}

std::string joined(const std::string& said, std::vector<std::string> stops) {
  std::string all = shown(said, std::move(stops));
  std::erase(all, '|');
  return all;
}

TEST(AnswerTextTest, ShowsEverythingAtOnceWithoutStops) { EXPECT_EQ(shown("abc", {}), "a|b|c|"); }

TEST(AnswerTextTest, HoldsBackWhatMayBeginAStopText) {
  EXPECT_EQ(shown("xENy", {"END"}), "x|||ENy|");
  EXPECT_EQ(shown("xEN", {"END"}), "x|||EN");
}

TEST(AnswerTextTest, ShowsNothingFromTheStopTextOn) {
  EXPECT_EQ(shown("xENDy", {"END"}), "x|||||");
  EXPECT_EQ(joined("hello\n\nUser: no", {"\nUser:", "zzz"}), "hello\n");
}

TEST(AnswerTextTest, TheEarliestOfSeveralStopsCounts) {
  EXPECT_EQ(joined("abcdef", {"def", "bc"}), "a");
  EXPECT_EQ(joined("aab", {"ab"}), "a");
  EXPECT_EQ(joined("ababac", {"abac"}), "ab");
}

TEST(AnswerTextTest, FindsAStopTextInsideOneToken) {
  AnswerText text(std::make_shared<const FakeTokenizer>(), {"b"});
  EXPECT_EQ(text.push(FakeTokenizer::pair('a', 'b')), "a");
  EXPECT_TRUE(text.stopped());
}

TEST(AnswerTextTest, CharactersComeOutWhole) {
  EXPECT_EQ(shown("\xc3\xa9!", {}), "|\xc3\xa9|!|");
  EXPECT_EQ(joined("\xc3", {}), "\xef\xbf\xbd");
  EXPECT_EQ(joined("x\xc3\xa9y", {"\xc3\xa9"}), "x");
}

}  // namespace
}  // namespace ringtide::actors
