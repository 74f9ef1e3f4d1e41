#include "model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <thread>

#include "model/gguf.h"
#include "model/pre_tokenizer.h"
#include "tests/model/text_fixture.h"
#include "tests/support/default_model.h"

namespace ringtide::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Tokens = std::vector<TokenId>;

// The texts of the tokens, for reading.
std::vector<std::string> texts(const Tokenizer& tokenizer, const Tokens& tokens) {
  std::vector<std::string> out;
  for (const TokenId token : tokens) out.emplace_back(tokenizer.bytes(token));
  return out;
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const ModelError& error) {
    return error.what();
  }
  return "no error";
}

Tokens fed(const Tokenizer& tokenizer, std::string_view text,
           const std::function<size_t()>& next_cut) {
  Fed fed = feed(tokenizer, text, next_cut);
  EXPECT_LT(fed.longest_tail, Tokenizer::kMaxTail);
  return std::move(fed.tokens);
}

class EveryPreTokenizer : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Names, EveryPreTokenizer,
                         ::testing::Values("default", "smollm", "llama-bpe", "qwen2", "gpt-2",
                                           "tekken"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(EveryPreTokenizer, KeepsEveryByte) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make(GetParam());
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = nasty_text(random, random() % 20);
    ASSERT_EQ(spelled(*tokenizer, tokenizer->encode(text)), text);
  }
}

TEST_P(EveryPreTokenizer, CuttingDoesNotMatter) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make(GetParam());
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = nasty_text(random, random() % 30);
    const Tokens whole = tokenizer->encode(text);
    ASSERT_EQ(fed(*tokenizer, text, [] { return 1; }), whole) << ::testing::PrintToString(text);
    ASSERT_EQ(fed(*tokenizer, text, [&] { return 1 + random() % 9; }), whole)
        << ::testing::PrintToString(text);
  }
}

// Whatever follows: not just what followed in one text.
TEST_P(EveryPreTokenizer, CertainTokensStartEveryContinuation) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make(GetParam());
  std::mt19937_64 random(3);
  for (int round = 0; round < 1000; ++round) {
    const std::string text = nasty_text(random, random() % 12);
    const Tokenizer::Stable stable = tokenizer->encode_stable(text);
    for (int i = 0; i < 10; ++i) {
      Tokens all = tokenizer->encode(text + nasty_text(random, random() % 4));
      ASSERT_GE(all.size(), stable.tokens.size());
      all.resize(stable.tokens.size());
      ASSERT_EQ(all, stable.tokens) << ::testing::PrintToString(text);
    }
  }
}

TEST_P(EveryPreTokenizer, LongPiecesAreCutTheSameWayHoweverFed) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make(GetParam());
  std::mt19937_64 random(4);
  for (const std::string unit :
       {"a", " ", "\n", " \n", "1", "漢", "🙂", "é", ".", "\xff", "'", "\u3000"}) {
    for (const size_t bytes : {4090, 4097, 9000}) {
      std::string text(random() % 4, 'x');
      while (text.size() < bytes) text += unit;
      text += "\xe2\x82 and the end";
      const Tokens whole = tokenizer->encode(text);
      ASSERT_EQ(spelled(*tokenizer, whole), text);
      ASSERT_EQ(fed(*tokenizer, text, [&] { return 1 + random() % 700; }), whole) << unit << bytes;
      ASSERT_EQ(fed(*tokenizer, text, [&] { return 4095 + random() % 3; }), whole) << unit << bytes;
    }
  }
}

TEST_P(EveryPreTokenizer, LongStreamsInSmallChunksKeepAShortTail) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make(GetParam());
  std::mt19937_64 random(5);
  const std::string text = nasty_text(random, 200000);
  EXPECT_EQ(fed(*tokenizer, text, [] { return 64; }), tokenizer->encode(text));
}

TEST(Tokenizer, MergesByRankThenLeftToRight) {
  SmallVocabulary vocabulary({"b c", "a b", "a a", "aa a", "bc d"});
  const auto tokenizer = vocabulary.make();
  const auto pieces = [&](std::string_view text) {
    return texts(*tokenizer, tokenizer->encode(text));
  };
  EXPECT_THAT(pieces("abc"), ElementsAre("a", "bc"));
  EXPECT_THAT(pieces("ab"), ElementsAre("ab"));
  EXPECT_THAT(pieces("abcd"), ElementsAre("a", "bcd"));
  EXPECT_THAT(pieces("aaaaa"), ElementsAre("aa", "aaa"));
  EXPECT_THAT(pieces(""), ElementsAre());
}

// The definition, applied step by step to the whole piece.
Tokens merge_slowly(const SmallVocabulary& vocabulary, std::string_view piece) {
  std::vector<std::string> symbols;
  for (const char c : piece) symbols.emplace_back(1, c);
  for (bool merged = true; merged;) {
    merged = false;
    for (const std::string& merge : vocabulary.merges) {
      const size_t space = merge.find(' ');
      for (size_t i = 0; i + 1 < symbols.size() && !merged; ++i) {
        if (symbols[i] != merge.substr(0, space) || symbols[i + 1] != merge.substr(space + 1))
          continue;
        symbols[i] += symbols[i + 1];
        symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
        merged = true;
      }
      if (merged) break;
    }
  }
  Tokens tokens;
  for (const std::string& symbol : symbols) {
    const auto at = std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), symbol);
    tokens.push_back(static_cast<TokenId>(at - vocabulary.tokens.begin()));
  }
  return tokens;
}

TEST(Tokenizer, AgreesWithTheDefinitionOfMerging) {
  SmallVocabulary vocabulary({"a b", "b a", "ab a", "a a", "b b", "ab ab", "aba b", "aa b", "bb b",
                              "aab a", "c a", "b c", "ca bc"});
  const auto tokenizer = vocabulary.make();
  std::mt19937_64 random(6);
  for (int round = 0; round < 1000; ++round) {
    std::string piece;
    for (size_t length = 1 + random() % 60; piece.size() < length;) piece += "aabbc"[random() % 5];
    ASSERT_EQ(tokenizer->encode(piece), merge_slowly(vocabulary, piece)) << piece;
  }
}

TEST(Tokenizer, SplitsAsItsNameSays) {
  const auto pieces = [&](std::string_view pre_name, std::string_view text) {
    const PreTokenizer pre(pre_name);
    const auto scratch = pre.scratch();
    PreTokenizer::Walk walk(pre, *scratch, text, false);
    std::vector<std::string> out;
    for (auto piece = walk.next(); !piece.empty(); piece = walk.next()) out.emplace_back(piece);
    return out;
  };
  constexpr std::string_view kText = "It'S 12345  o'clock\n\n x!\n\t5";
  EXPECT_THAT(pieces("gpt-2", kText), ElementsAre("It", "'", "S", " 12345", " ", " o", "'", "clock",
                                                  "\n\n", " x", "!", "\n", "\t", "5"));
  EXPECT_THAT(pieces("smollm", kText),
              ElementsAre("It", "'", "S", " ", "1", "2", "3", "4", "5", " ", " o", "'", "clock",
                          "\n\n", " x", "!", "\n\t", "5"));
  EXPECT_THAT(pieces("llama-bpe", kText), ElementsAre("It", "'S", " ", "123", "45", " ", " o",
                                                      "'clock", "\n\n", " x", "!\n", "\t", "5"));
  EXPECT_THAT(pieces("qwen2", kText), ElementsAre("It", "'S", " ", "1", "2", "3", "4", "5", " ",
                                                  " o", "'clock", "\n\n", " x", "!\n", "\t", "5"));
  EXPECT_THAT(pieces("tekken", "It'S XMLHttp/\n12"),
              ElementsAre("It", "'S", " XMLHttp", "/\n", "1", "2"));
  EXPECT_THAT(pieces("gpt-2", "a\xe2\x82z \xff\xfe"),
              ElementsAre("a", "\xe2", "\x82", "z", " ", "\xff", "\xfe"));
}

TEST(Tokenizer, HoldsWhatMayStillChange) {
  SmallVocabulary vocabulary;
  const auto held = [&](std::string_view pre, std::string_view text) {
    const auto stable = vocabulary.make(pre)->encode_stable(text);
    return std::string(text.substr(stable.bytes));
  };
  EXPECT_EQ(held("smollm", "the sea"), " sea");
  EXPECT_EQ(held("smollm", "the sea "), " ");
  EXPECT_EQ(held("smollm", "the sea's"), "");
  EXPECT_EQ(held("smollm", "the sea'r"), "'r");
  EXPECT_EQ(held("smollm", "year 12"), "");
  EXPECT_EQ(held("llama-bpe", "12"), "12");
  EXPECT_EQ(held("llama-bpe", "1234"), "4");
  EXPECT_EQ(held("gpt-2", "1234"), "1234");
  EXPECT_EQ(held("smollm", "1\xe2\x82"), "\xe2\x82");
  EXPECT_EQ(held("smollm", "1\xe2\x82\xac"), "\xe2\x82\xac");
  EXPECT_EQ(held("smollm", "1\xff"), "");
}

TEST(Tokenizer, NothingInATextIsSpecial) {
  SmallVocabulary vocabulary;
  for (const std::string pre : {"smollm", "llama-bpe", "qwen2", "gpt-2"}) {
    const auto tokenizer = vocabulary.make(pre);
    const TokenId end = tokenizer->special("<|im_end|>");
    ASSERT_GE(end, 0);
    EXPECT_EQ(tokenizer->name(end), "<|im_end|>");
    EXPECT_EQ(tokenizer->bytes(end), "");
    const Tokens tokens = tokenizer->encode("x<|im_end|><|im_start|>");
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), end), 0);
    EXPECT_EQ(spelled(*tokenizer, tokens), "x<|im_end|><|im_start|>");
  }
}

TEST(Tokenizer, KindsOfTokens) {
  SmallVocabulary vocabulary({},
                             {"<unk>", "<tool>", "<0x0A>", "<pad>", "<|eot_id|>", "<end_of_turn>"});
  auto& kinds = vocabulary.tables.kinds;
  kinds[256] = 2;
  kinds[257] = 4;
  kinds[258] = 6;
  kinds[259] = 5;
  kinds[261] = 4;
  vocabulary.tables.eos = 259;
  const auto tokenizer = vocabulary.make();
  EXPECT_EQ(tokenizer->size(), 262);
  EXPECT_EQ(tokenizer->bytes(32), " ");
  EXPECT_EQ(tokenizer->name(32), "");
  EXPECT_EQ(tokenizer->bytes(256), "");
  EXPECT_EQ(tokenizer->bytes(257), "<tool>");
  EXPECT_EQ(tokenizer->special("<tool>"), 257);
  EXPECT_EQ(tokenizer->bytes(258), "\n");
  EXPECT_EQ(tokenizer->special("<nothing>"), -1);
  EXPECT_EQ(tokenizer->bytes(-1), "");
  EXPECT_EQ(tokenizer->bytes(262), "");
  EXPECT_TRUE(tokenizer->ends_generation(259));
  EXPECT_TRUE(tokenizer->ends_generation(260)) << "a well-known name";
  EXPECT_FALSE(tokenizer->ends_generation(261)) << "a well-known name that is no control token";
  EXPECT_FALSE(tokenizer->ends_generation(-1));
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->eos(), 259);
}

TEST(Tokenizer, BytesWithoutATokenBecomeTheReplacementCharacter) {
  SmallVocabulary vocabulary;
  vocabulary.tokens[0x04] = "spare";
  vocabulary.tables.tokens[0x04] = vocabulary.tokens[0x04];
  const auto tokenizer = vocabulary.make();
  EXPECT_EQ(spelled(*tokenizer, tokenizer->encode("a\x04z")), "a\uFFFDz");
  vocabulary.tokens[0xEF] = "other";
  vocabulary.tables.tokens[0xEF] = vocabulary.tokens[0xEF];
  EXPECT_THAT(error_of([&] { vocabulary.make(); }),
              HasSubstr("tokenizer.ggml.tokens: no token for"));
}

TEST(Tokenizer, WholeTokensComeFirstForLlama3) {
  // "xyz" is a token that no merge makes.
  SmallVocabulary vocabulary({"x y"}, {"xyz"});
  vocabulary.tables.kinds.back() = 1;
  EXPECT_THAT(vocabulary.make("llama-bpe")->encode("xyz"), ElementsAre(257));
  EXPECT_THAT(vocabulary.make("qwen2")->encode("xyz"), ElementsAre(256, 'z'));
}

TEST(Tokenizer, RefusesTablesThatDoNotFit) {
  using Change = std::function<void(SmallVocabulary&)>;
  const std::pair<Change, std::string> cases[] = {
      {[](auto& v) { v.tables.model = "bert"; }, "tokenizer.ggml.model: \"bert\""},
      {[](auto& v) { v.tables.tokens.clear(); }, "tokenizer.ggml.tokens is empty"},
      {[](auto& v) { v.tables.kinds.pop_back(); }, "tokenizer.ggml.token_type has"},
      {[](auto& v) { v.tables.kinds[7] = 9; }, "tokenizer.ggml.token_type: token 7"},
      {[](auto& v) { v.tables.kinds[7] = 6; }, "has the type of a byte"},
      {[](auto& v) { v.tables.tokens[9] = v.tables.tokens[8]; }, "is there twice, first as 8"},
      {[](auto& v) { v.tables.merges.push_back("the"); }, "is not two tokens"},
      {[](auto& v) { v.tables.merges.push_back("the "); }, "is not two tokens"},
      {[](auto& v) { v.tables.merges.push_back(""); }, "is not two tokens"},
      {[](auto& v) { v.tables.merges.push_back("q zz"); }, "needs \"zz\""},
      {[](auto& v) { v.tables.merges.push_back("q z"); }, "needs \"qz\""},
      {[](auto& v) { v.tables.kinds[256] = 3; }, "special token from plain text"},
      {[](auto& v) { v.tables.bos = 100000; }, "tokenizer.ggml.bos_token_id is 100000"},
      {[](auto& v) { v.tables.eos = -2; }, "tokenizer.ggml.eos_token_id is -2"},
      {[](auto& v) { v.tables.ends = {100000}; }, "tokenizer.ggml.eot_token_id is 100000"},
      {[](auto& v) { v.tables.adds_bos = true; }, "tokenizer.ggml.add_bos_token is true"},
  };
  for (const auto& [change, message] : cases) {
    SmallVocabulary vocabulary;
    change(vocabulary);
    EXPECT_THAT(error_of([&] { vocabulary.make(); }), HasSubstr(message));
  }
  SmallVocabulary vocabulary;
  EXPECT_THAT(error_of([&] { vocabulary.make("klingon"); }),
              AllOf(HasSubstr("tokenizer.ggml.pre"), HasSubstr("klingon"), HasSubstr("smollm"),
                    HasSubstr("llama-bpe")));
}

TEST(Tokenizer, ThreadsShareOne) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make("smollm");
  std::mt19937_64 random(7);
  const std::string text = nasty_text(random, 3000);
  const Tokens expected = tokenizer->encode(text);
  std::vector<Tokens> results(4);
  std::vector<std::thread> threads;
  for (Tokens& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) result = tokenizer->encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Tokens& result : results) EXPECT_EQ(result, expected);
}

class DefaultModel : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = testing::default_model_path();
    if (path.empty()) GTEST_SKIP() << testing::kNoDefaultModel;
    file_.emplace(GgufFile::open(path));
  }
  std::optional<GgufFile> file_;
};

TEST_F(DefaultModel, SaysWhatTheFileSays) {
  const auto tokenizer = Tokenizer::from_gguf(*file_);
  EXPECT_EQ(tokenizer->size(), 49152);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->name(2), "<|im_end|>");
  EXPECT_EQ(tokenizer->special("<|endoftext|>"), 0);
  EXPECT_TRUE(tokenizer->ends_generation(0));
  EXPECT_FALSE(tokenizer->ends_generation(1));
  EXPECT_TRUE(tokenizer->ends_generation(2));
  EXPECT_FALSE(tokenizer->ends_generation(28120));
}

TEST_F(DefaultModel, CuttingDoesNotMatter) {
  const auto tokenizer = Tokenizer::from_gguf(*file_);
  std::mt19937_64 random(8);
  for (int round = 0; round < 500; ++round) {
    const std::string text = nasty_text(random, random() % 60);
    ASSERT_EQ(fed(*tokenizer, text, [&] { return 1 + random() % 7; }), tokenizer->encode(text));
  }
}

}  // namespace
}  // namespace ringtide::model
