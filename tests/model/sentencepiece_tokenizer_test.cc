#include "model/sentencepiece_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "model/utf8.h"
#include "tests/model/text_fixture.h"

namespace ringtide::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Tokens = std::vector<TokenId>;

// With a space before texts or without, and with layout that is matched first.
class EverySentencePiece : public ::testing::TestWithParam<bool> {
 protected:
  EverySentencePiece() : vocabulary_(pieces(), special()) {
    if (!GetParam()) {
      vocabulary_.tables.space_prefix = SpacePrefix::Never;
      for (size_t i = 258; i < 258 + 5; ++i) vocabulary_.tables.kinds[i] = 4;
    }
    tokenizer_ = vocabulary_.make();
  }
  static std::vector<std::string> pieces() {
    auto list = SpaceVocabulary::default_pieces();
    for (const char* byte : {"a", "t", "h", "e", "\n", "\t", "1", "-", "é", "字"}) {
      list.push_back(byte);
    }
    return list;
  }
  static std::vector<std::string> special() {
    return {"<s>", "</s>", "\n\n", "\n\n\n", "<table>", "aaaaa", "<|im_end|>"};
  }
  std::string prefixed(const std::string& text) const {
    return (GetParam() && !text.empty() ? " " : "") + text;
  }
  SpaceVocabulary vocabulary_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};
INSTANTIATE_TEST_SUITE_P(Prefix, EverySentencePiece, ::testing::Bool());

TEST_P(EverySentencePiece, KeepsEveryByte) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = nasty_text(random, random() % 20);
    ASSERT_EQ(spelled(*tokenizer_, tokenizer_->encode(text)), prefixed(text));
    ASSERT_EQ(spelled(*tokenizer_, tokenizer_->encode(text, TextAt::Inside)), text);
  }
}

TEST_P(EverySentencePiece, CuttingDoesNotMatter) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = nasty_text(random, random() % 30);
    const Tokens whole = tokenizer_->encode(text);
    ASSERT_EQ(feed(*tokenizer_, text, [] { return 1; }).tokens, whole)
        << ::testing::PrintToString(text);
    ASSERT_EQ(feed(*tokenizer_, text, [&] { return 1 + random() % 9; }).tokens, whole)
        << ::testing::PrintToString(text);
  }
}

TEST_P(EverySentencePiece, CertainTokensStartEveryContinuation) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 1000; ++round) {
    const std::string text = nasty_text(random, random() % 12);
    const Tokenizer::Stable stable = tokenizer_->encode_stable(text);
    for (int i = 0; i < 10; ++i) {
      Tokens all = tokenizer_->encode(text + nasty_text(random, random() % 4));
      ASSERT_GE(all.size(), stable.tokens.size());
      all.resize(stable.tokens.size());
      ASSERT_EQ(all, stable.tokens) << ::testing::PrintToString(text);
    }
  }
}

TEST_P(EverySentencePiece, LongSegmentsAreCutTheSameWayHoweverFed) {
  std::mt19937_64 random(4);
  for (const std::string unit : {"a", " ", "\n", "the", "漢字", "🙂", "é", ".", "\xff"}) {
    for (const size_t bytes : {3060, 3075, 9000}) {
      std::string text(random() % 4, 'x');
      while (text.size() < bytes) text += unit;
      text += "\xe2\x82 and the end";
      const Tokens whole = tokenizer_->encode(text);
      ASSERT_EQ(spelled(*tokenizer_, whole), prefixed(text));
      for (const size_t most : {1, 700, 4000}) {
        const Fed fed = feed(*tokenizer_, text, [&] { return 1 + random() % most; });
        ASSERT_EQ(fed.tokens, whole) << unit << bytes;
        ASSERT_LT(fed.longest_tail, Tokenizer::kMaxTail);
      }
    }
  }
}

// The definition (Kudo and Richardson 2018), applied step by step to the whole text.
Tokens merge_slowly(const SpaceVocabulary& vocabulary, const std::string& text) {
  std::vector<std::string> symbols;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_step(std::string_view(text).substr(at)).length;
    symbols.push_back(text[at] == ' ' ? "\u2581" : text.substr(at, length));
    at += length;
  }
  const auto find = [&](const std::string& piece) {
    const auto& tokens = vocabulary.tokens;
    return static_cast<TokenId>(std::find(tokens.begin(), tokens.end(), piece) - tokens.begin());
  };
  const auto count = static_cast<TokenId>(vocabulary.tokens.size());
  while (true) {
    size_t best = symbols.size();
    float score = -std::numeric_limits<float>::infinity();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const TokenId id = find(symbols[i] + symbols[i + 1]);
      if (id == count || vocabulary.tables.scores[id] <= score) continue;
      best = i;
      score = vocabulary.tables.scores[id];
    }
    if (best == symbols.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  Tokens tokens;
  for (const std::string& symbol : symbols) {
    if (const TokenId id = find(symbol); id < count) {
      tokens.push_back(id);
    } else {
      for (const char c : symbol) tokens.push_back(static_cast<uint8_t>(c));
    }
  }
  return tokens;
}

TEST(SentencePiece, AgreesWithTheDefinitionOfMerging) {
  SpaceVocabulary vocabulary({"ab", "ba", "aba", "aa", "bb", "abab", "aab", "bbb", "aaba", "ca",
                              "bc", "▁a", "▁▁", "a▁b", "cabc", "éa", "▁é"});
  vocabulary.tables.space_prefix = SpacePrefix::Never;
  for (float& score : vocabulary.tables.scores) score = std::floor(score / 3);  // many are equal
  const auto tokenizer = vocabulary.make();
  std::mt19937_64 random(6);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    constexpr const char* kParts[] = {"a", "a", "b", "b", "c", " ", "é", "d"};
    for (size_t parts = 1 + random() % 50; parts > 0; --parts) text += kParts[random() % 8];
    ASSERT_EQ(tokenizer->encode(text), merge_slowly(vocabulary, text)) << text;
  }
}

std::vector<std::string> texts(const Tokenizer& tokenizer, const Tokens& tokens) {
  std::vector<std::string> out;
  for (const TokenId token : tokens) out.emplace_back(spelled(tokenizer, {token}));
  return out;
}

TEST(SentencePiece, PutsASpaceOnlyWhereATextStarts) {
  SpaceVocabulary vocabulary({"a", "▁a", "▁▁"});
  const auto tokens = [&](std::string_view text, TextAt at = TextAt::Start) {
    const auto tokenizer = vocabulary.make();
    return texts(*tokenizer, tokenizer->encode(text, at));
  };
  EXPECT_THAT(tokens("a a"), ElementsAre(" a", " a"));
  EXPECT_THAT(tokens("a a", TextAt::Inside), ElementsAre("a", " a"));
  EXPECT_THAT(tokens(" a"), ElementsAre(" ", " a"));
  EXPECT_THAT(tokens(""), ElementsAre());
  vocabulary.tables.space_prefix = SpacePrefix::UnlessThere;
  EXPECT_THAT(tokens(" a"), ElementsAre(" a"));
  EXPECT_THAT(tokens("a"), ElementsAre(" a"));
  vocabulary.tables.space_prefix = SpacePrefix::Never;
  EXPECT_THAT(tokens("a a"), ElementsAre("a", " a"));
}

TEST(SentencePiece, OnlyLayoutIsMatchedInAText) {
  SpaceVocabulary vocabulary({"a"}, {"<s>", "\n\n", "<b>", "<|im_end|>", "<end_of_turn>"});
  for (size_t i = 257; i < 261; ++i) vocabulary.tables.kinds[i] = 4;
  vocabulary.tables.space_prefix = SpacePrefix::Never;
  const auto tokenizer = vocabulary.make();
  EXPECT_THAT(tokenizer->encode("\n\n\n<b>a"), ElementsAre(257, '\n', 258, 261));
  for (const char* order : {"<s>", "<|im_end|>", "<end_of_turn>"}) {
    const Tokens tokens = tokenizer->encode(order);
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), tokenizer->special(order)), 0) << order;
    EXPECT_EQ(spelled(*tokenizer, tokens), order);
  }
}

TEST(SentencePiece, TheMarkOfASpaceIsNoSpace) {
  SpaceVocabulary vocabulary({"▁▁"});
  vocabulary.tables.space_prefix = SpacePrefix::Never;
  const auto tokenizer = vocabulary.make();
  EXPECT_THAT(tokenizer->encode("▁"), ElementsAre(0xE2, 0x96, 0x81));
  EXPECT_EQ(spelled(*tokenizer, tokenizer->encode("▁ ▁")), "▁ ▁");
}

TEST(SentencePiece, RefusesTablesThatDoNotFit) {
  using Change = std::function<void(SpaceVocabulary&)>;
  const std::string long_name(2000, 'x');
  const std::pair<Change, std::string> cases[] = {
      {[](auto& v) { v.tables.scores.pop_back(); }, "tokenizer.ggml.scores has"},
      {[](auto& v) { v.tables.scores.back() = std::nanf(""); }, "is not a number"},
      {[](auto& v) { v.tables.kinds[7] = 1; }, "no token for the byte 7"},
      {[](auto& v) { v.tables.kinds.back() = 6; }, "has the type of a byte"},
      {[&](auto& v) {
         v.tables.tokens.back() = long_name;
         v.tables.kinds.back() = 4;
       },
       "has more than 1024 bytes"},
      {[](auto& v) {
         v.tables.scores.clear();
         v.tables.merges = {"a z"};
       },
       "tokenizer.ggml.merges: entry 0"},
  };
  for (const auto& [change, message] : cases) {
    SpaceVocabulary vocabulary(SpaceVocabulary::default_pieces());
    change(vocabulary);
    std::string error = "no error";
    try {
      vocabulary.make();
    } catch (const ModelError& e) {
      error = e.what();
    }
    EXPECT_THAT(error, HasSubstr(message));
  }
}

}  // namespace
}  // namespace ringtide::model
