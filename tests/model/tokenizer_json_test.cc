#include "model/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/model/text_fixture.h"

namespace ringtide::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Json fixture(const std::string& name) {
  std::ifstream in(std::string(RINGTIDE_FIXTURES) + "/" + name);
  return Json::parse(in);
}

FolderText read(const Json& tokenizer, const Json& config = Json::object()) {
  return read_tokenizer_files(
      {.tokenizer = tokenizer.dump(), .tokenizer_config = config.dump(), .ends = {}});
}

std::string error_of(const Json& tokenizer, const Json& config = Json::object()) {
  try {
    read(tokenizer, config);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "no error";
}

TEST(TokenizerJson, SaysWhatTheFilesSay) {
  const Json json = fixture("byte_bpe.json");
  const auto text =
      read_tokenizer_files({.tokenizer = json.dump(),
                            .tokenizer_config = R"({"bos_token": {"content": "<|begin_of_text|>"},
                               "eos_token": "<|end_of_text|>", "add_bos_token": true,
                               "chat_template": [{"name": "default", "template": "x"}]})",
                            .ends = {7}});
  EXPECT_EQ(text.tokenizer->size(), 702);
  EXPECT_EQ(text.tokenizer->bos(), 700);
  EXPECT_EQ(text.tokenizer->eos(), 701);
  EXPECT_TRUE(text.tokenizer->adds_bos());
  EXPECT_TRUE(text.tokenizer->ends_generation(701));
  EXPECT_TRUE(text.tokenizer->ends_generation(7));
  EXPECT_FALSE(text.tokenizer->ends_generation(8));
  EXPECT_EQ(text.tokenizer->name(701), "<|end_of_text|>");
  EXPECT_EQ(text.chat_template, "x");
}

TEST(TokenizerJson, ThePostProcessorTellsAboutBos) {
  Json json = fixture("byte_bpe.json");
  json["post_processor"] = {{"type", "Sequence"},
                            {"processors",
                             {{{"type", "ByteLevel"}},
                              {{"type", "TemplateProcessing"},
                               {"single",
                                {{{"SpecialToken", {{"id", "<|begin_of_text|>"}, {"type_id", 0}}}},
                                 {{"Sequence", {{"id", "A"}}}}}}}}}};
  EXPECT_TRUE(read(json).tokenizer->adds_bos());
  EXPECT_EQ(read(json).tokenizer->bos(), 700);
  EXPECT_FALSE(read(json, {{"add_bos_token", false}}).tokenizer->adds_bos());
}

TEST(TokenizerJson, SplitsAsItsComponentsSay) {
  Json json = fixture("byte_bpe.json");
  json["model"]["ignore_merges"] = false;
  const auto tokens = [&](const Json& split) {
    json["pre_tokenizer"] = split;
    return read(json).tokenizer->encode("it's 2024 now").size();
  };
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_LT(tokens(bytes), tokens({{"type", "Sequence"}, {"pretokenizers", {digits, bytes}}}));
}

TEST(TokenizerJson, SpacesAreMarkedByEitherComponent) {
  Json json = fixture("space_bpe.json");
  const auto old = read(json).tokenizer;
  EXPECT_TRUE(old->space_prefix());
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\u2581"},
                           {"prepend_scheme", "first"},
                           {"split", false}};
  const auto first = read(json).tokenizer;
  EXPECT_EQ(first->encode("the sea"), old->encode("the sea"));
  EXPECT_EQ(first->encode(" the sea"), old->encode("the sea")) << "a space is there";
  json["pre_tokenizer"]["prepend_scheme"] = "never";
  EXPECT_FALSE(read(json).tokenizer->space_prefix());
}

TEST(TokenizerJson, AddedTokensAreLayoutOrOrders) {
  Json json = fixture("space_bpe.json");
  const auto add = [&](const char* content, bool special) {
    const size_t id = json["model"]["vocab"].size() + json["added_tokens"].size() - 3;
    json["added_tokens"].push_back({{"id", id},
                                    {"content", content},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", special}});
    return static_cast<TokenId>(id);
  };
  const TokenId lines = add("\n\n", false), order = add("<end>", true);
  const auto tokenizer = read(json).tokenizer;
  EXPECT_THAT(tokenizer->encode("\n\n", TextAt::Inside), ElementsAre(lines));
  EXPECT_GT(tokenizer->encode("<end>").size(), 1u);
  EXPECT_EQ(tokenizer->special("<end>"), order);
}

TEST(TokenizerJson, RefusesByName) {
  using Change = std::function<void(Json&)>;
  const std::pair<Change, std::string> bytes[] = {
      {[](auto& j) { j["extra"] = 1; }, "the component \"extra\""},
      {[](auto& j) { j.erase("model"); }, "tokenizer.json: model is no object"},
      {[](auto& j) { j["model"]["type"] = "Unigram"; }, "the type \"Unigram\""},
      {[](auto& j) { j["model"]["dropout"] = 0.1; }, "dropout = 0.1"},
      {[](auto& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
      {[](auto& j) { j["model"]["vocab"] = 1; }, "vocab is no object"},
      {[](auto& j) { j["model"]["vocab"]["q"] = 100000; }, "ids are below the number"},
      {[](auto& j) { j["model"]["vocab"]["q"] = -1; }, "ids are below the number"},
      {[](auto& j) { j["model"]["vocab"]["new"] = 5; }, "two tokens have the id 5"},
      {[](auto& j) {
         j["model"]["vocab"].erase("!");
         j["added_tokens"].push_back(j["added_tokens"][0]);
       },
       "no token has the id"},
      {[](auto& j) {
         j["model"]["merges"].push_back({"a", "b c"});
       },
       "without spaces"},
      {[](auto& j) { j["model"]["merges"].push_back("a"); }, "is not two tokens"},
      {[](auto& j) {
         j["normalizer"] = {{"type", "Lowercase"}};
       },
       "\"Lowercase\""},
      {[](auto& j) {
         j["pre_tokenizer"] = {{"type", "Whitespace"}};
       },
       "\"Whitespace\""},
      {[](auto& j) { j["pre_tokenizer"] = nullptr; }, "BPE without ByteLevel"},
      {[](auto& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "x+"; },
       "no pre-tokenizer splits by the expression x+"},
      {[](auto& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; },
       "behavior = \"Removed\""},
      {[](auto& j) {
         j["decoder"] = {{"type", "WordPiece"}};
       },
       "\"WordPiece\""},
      {[](auto& j) {
         j["post_processor"] = {{"type", "BertProcessing"}};
       },
       "\"BertProcessing\""},
      {[](auto& j) { j["added_tokens"][0]["rstrip"] = true; }, "rstrip = true"},
      {[](auto& j) { j["added_tokens"] = 3; }, "added_tokens is no array"},
  };
  for (const auto& [change, message] : bytes) {
    Json json = fixture("byte_bpe.json");
    ASSERT_EQ(error_of(json), "no error");
    change(json);
    EXPECT_THAT(error_of(json), HasSubstr(message));
  }
  const std::pair<Change, std::string> spaces[] = {
      {[](auto& j) { j["normalizer"] = nullptr; }, "without spaces marked"},
      {[](auto& j) { j["normalizer"]["normalizers"][0]["type"] = "NFKC"; }, "this NFKC"},
      {[](auto& j) { j["model"]["ignore_merges"] = true; }, "ignore_merges with byte_fallback"},
      {[](auto& j) { j["model"]["merges"].push_back("<0x41> <0x42>"); }, "which is no token"},
  };
  for (const auto& [change, message] : spaces) {
    Json json = fixture("space_bpe.json");
    change(json);
    EXPECT_THAT(error_of(json), HasSubstr(message));
  }
  const Json json = fixture("byte_bpe.json");
  EXPECT_THAT(error_of(json, {{"bos_token", "<none>"}}), HasSubstr("\"<none>\" is no token"));
  EXPECT_THAT(error_of(json, {{"bos_token", 5}}), HasSubstr("bos_token is no string"));
  EXPECT_THAT(error_of(json, {{"add_bos_token", 5}}), HasSubstr("add_bos_token is no boolean"));
  EXPECT_THAT(error_of(json, {{"chat_template", 5}}), HasSubstr("chat_template"));
  EXPECT_THROW(read_tokenizer_files({.tokenizer = "{", .tokenizer_config = "", .ends = {}}),
               ModelError);
  EXPECT_THROW(read_tokenizer_files({.tokenizer = "[]", .tokenizer_config = "", .ends = {}}),
               ModelError);
}

}  // namespace
}  // namespace ringtide::model
