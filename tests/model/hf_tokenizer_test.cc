#include "model/hf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "model/tokenizer_tables.h"
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

std::shared_ptr<const Tokenizer> read(const Json& tokenizer, const Json& config = Json::object(),
                                      const Json& generation = Json::object()) {
  const HfTokenizer read = read_hf_tokenizer(
      JsonObject(tokenizer, "tokenizer.json"), JsonObject(config, "tokenizer_config.json"),
      JsonObject(generation, "generation_config.json"), 1300);
  return make_tokenizer(read.tables);
}

std::string error_of(const Json& tokenizer, const Json& config = Json::object()) {
  try {
    read(tokenizer, config);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "no error";
}

TEST(HfTokenizerTest, SaysWhatTheFilesSay) {
  const auto tokenizer =
      read(fixture("byte_bpe.json"),
           {{"bos_token", {{"content", "<|begin_of_text|>"}}}, {"eos_token", "<|end_of_text|>"}},
           Json::parse(R"({"eos_token_id": [701, 7]})"));
  EXPECT_EQ(tokenizer->size(), 1300) << "rows that no token has are unused";
  EXPECT_EQ(tokenizer->bos(), 700);
  EXPECT_EQ(tokenizer->eos(), 701);
  EXPECT_TRUE(tokenizer->ends_generation(701));
  EXPECT_TRUE(tokenizer->ends_generation(7));
  EXPECT_FALSE(tokenizer->ends_generation(8));
  EXPECT_EQ(tokenizer->name(701), "<|end_of_text|>");
}

TEST(HfTokenizerTest, ThePostProcessorTellsAboutBos) {
  Json json = fixture("byte_bpe.json");
  json["post_processor"] = {{"type", "Sequence"},
                            {"processors",
                             {{{"type", "ByteLevel"}},
                              {{"type", "TemplateProcessing"},
                               {"single",
                                {{{"SpecialToken", {{"id", "<|begin_of_text|>"}, {"type_id", 0}}}},
                                 {{"Sequence", {{"id", "A"}}}}}}}}}};
  EXPECT_TRUE(read(json)->adds_bos());
  EXPECT_EQ(read(json)->bos(), 700);
}

TEST(HfTokenizerTest, SplitsAsItsComponentsSay) {
  Json json = fixture("byte_bpe.json");
  json["model"]["ignore_merges"] = false;
  const auto tokens = [&](const Json& split) {
    json["pre_tokenizer"] = split;
    return read(json)->encode("it's 2024 now").size();
  };
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_LT(tokens(bytes), tokens({{"type", "Sequence"}, {"pretokenizers", {digits, bytes}}}));
}

TEST(HfTokenizerTest, SpacesAreMarkedByEitherComponent) {
  Json json = fixture("space_bpe.json");
  const auto old = read(json);
  EXPECT_TRUE(old->space_prefix());
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Metaspace"},
                           {"replacement", "\u2581"},
                           {"prepend_scheme", "first"},
                           {"split", false}};
  const auto first = read(json);
  EXPECT_EQ(first->encode("the sea"), old->encode("the sea"));
  EXPECT_EQ(first->encode(" the sea"), old->encode("the sea")) << "a space is there";
  json["pre_tokenizer"]["prepend_scheme"] = "never";
  EXPECT_FALSE(read(json)->space_prefix());
}

TEST(HfTokenizerTest, AddedTokensAreLayoutOrOrders) {
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
  const auto tokenizer = read(json);
  EXPECT_THAT(tokenizer->encode("\n\n", TextAt::Inside), ElementsAre(lines));
  EXPECT_GT(tokenizer->encode("<end>").size(), 1u);
  EXPECT_EQ(tokenizer->special("<end>"), order);
}

TEST(HfTokenizerTest, RefusesByName) {
  using Change = std::function<void(Json&)>;
  const std::pair<Change, std::string> bytes[] = {
      {[](auto& j) { j["model"]["dropout"] = 0.1; }, "\"model.dropout\""},
      {[](auto& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
      {[](auto& j) { j["model"]["unk_token"] = "!"; }, "unk_token"},
      {[](auto& j) {
         j["model"]["merges"].push_back({"a", "b c"});
       },
       "without spaces"},
      {[](auto& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "x+"; },
       "splits by \"x+\""},
      {[](auto& j) { j["added_tokens"][0]["rstrip"] = true; }, "rstrip"},
  };
  for (const auto& [change, message] : bytes) {
    Json json = fixture("byte_bpe.json");
    ASSERT_EQ(error_of(json), "no error");
    change(json);
    EXPECT_THAT(error_of(json), HasSubstr(message));
  }
  const std::pair<Change, std::string> spaces[] = {
      {[](auto& j) { j["normalizer"] = nullptr; }, "\"pre_tokenizer\""},
      {[](auto& j) { j["normalizer"]["normalizers"][0]["type"] = "NFKC"; }, "\"normalizer\""},
      {[](auto& j) {
         j["pre_tokenizer"] = {{"type", "Whitespace"}};
       },
       "\"pre_tokenizer\""},
      {[](auto& j) { j["model"]["ignore_merges"] = true; }, "ignore_merges"},
      {[](auto& j) { j["model"]["merges"].push_back("<0x41> <0x42>"); }, "which is no token"},
      {[](auto& j) { j["model"]["vocab"].erase("<0x41>"); }, "no token for the byte 65"},
  };
  for (const auto& [change, message] : spaces) {
    Json json = fixture("space_bpe.json");
    ASSERT_EQ(error_of(json), "no error");
    change(json);
    EXPECT_THAT(error_of(json), HasSubstr(message));
  }
  EXPECT_THAT(error_of(fixture("byte_bpe.json"), {{"bos_token", "<none>"}}), HasSubstr("<none>"));
}

}  // namespace
}  // namespace ringtide::model
