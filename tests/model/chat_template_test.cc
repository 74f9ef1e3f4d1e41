#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "model/jinja_text.h"
#include "tests/model/text_fixture.h"

namespace ringtide::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Tokens = std::vector<TokenId>;

nlohmann::json chats() {
  std::ifstream in(std::string(RINGTIDE_FIXTURES) + "/chats.json");
  return nlohmann::json::parse(in);
}

Role role_of(const std::string& name) {
  return name == "system" ? Role::System : name == "user" ? Role::User : Role::Assistant;
}

// A conversation as a session writes it, up to where the answer is generated.
Tokens write(const ChatTemplate& chat, const Tokenizer& tokenizer, const nlohmann::json& turns) {
  Tokens out = chat.begin();
  const auto add = [&](const Tokens& tokens) {
    out.insert(out.end(), tokens.begin(), tokens.end());
  };
  bool after_system = false;
  const auto turn = [&](Role role, const std::string& text) {
    add(after_system ? chat.open_after_system(role) : chat.open(role));
    add(tokenizer.encode(text));
    add(chat.close(role));
    after_system = role == Role::System;
  };
  if (turns[0][0] != "system" && !chat.default_system().empty()) {
    turn(Role::System, chat.default_system());
  }
  for (const auto& one : turns) turn(role_of(one[0]), one[1]);
  add(chat.open(Role::Assistant));
  return out;
}

// With all markers in the vocabulary, or none of them.
std::shared_ptr<const Tokenizer> vocabulary_for(const nlohmann::json& chat, bool with_markers) {
  std::vector<std::string> names = {chat["eos"]};
  if (chat["bos"] != "" && chat["bos"] != chat["eos"]) names.push_back(chat["bos"]);
  const auto eos = static_cast<TokenId>(256);
  if (with_markers) {
    for (const char* name :
         {"<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
          "<|system|>", "<|user|>", "<|assistant|>", "[INST]", "[/INST]", "<start_of_turn>",
          "<end_of_turn>"}) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  SmallVocabulary vocabulary({}, names);
  vocabulary.tables.eos = eos;
  vocabulary.tables.bos = chat["bos"] != "" && chat["bos"] != chat["eos"] ? eos + 1 : -1;
  return vocabulary.make("smollm");
}

TEST(ChatTemplate, WritesWhatTheTemplatesWrite) {
  for (const auto& chat : chats()) {
    for (const bool with_markers : {true, false}) {
      const auto tokenizer = vocabulary_for(chat, with_markers);
      const auto made = ChatTemplate::make("auto", chat["template"].get<std::string>(), tokenizer);
      ASSERT_TRUE(made);
      EXPECT_EQ(made->family(), chat["family"]);
      for (const auto& conversation : chat["conversations"]) {
        EXPECT_EQ(spelled(*tokenizer, write(*made, *tokenizer, conversation["turns"])),
                  conversation["rendered"]);
      }
    }
  }
}

TEST(ChatTemplate, GivesTheTokensOfTheDefaultModelsTemplate) {
  const auto path = test_model_path();
  if (!path) GTEST_SKIP() << "no model: set RINGTIDE_TEST_MODEL to the default model's file";
  const GgufFile file = GgufFile::open(*path);
  const auto tokenizer = Tokenizer::from_gguf(file);
  const auto text = file.require<std::string_view>("tokenizer.chat_template");
  const auto chat = ChatTemplate::make("auto", text, tokenizer);
  ASSERT_TRUE(chat);
  EXPECT_THAT(chat->default_system(), HasSubstr("SmolLM"));
  int compared = 0;
  for (const auto& expected : chats()) {
    if (expected["template"] != text) continue;
    for (const auto& conversation : expected["conversations"]) {
      EXPECT_EQ(write(*chat, *tokenizer, conversation["turns"]), conversation["ids"].get<Tokens>());
      ++compared;
    }
  }
  EXPECT_EQ(compared, 4);
}

TEST(ChatTemplate, MarkersAreTokensAndTextIsText) {
  SmallVocabulary vocabulary({}, {"<|im_start|>", "<|im_end|>"});
  const auto chat = ChatTemplate::make("chatml", "", vocabulary.make());
  EXPECT_THAT(chat->open(Role::User), ElementsAre(256, 'u', 's', 'e', 'r', '\n'));
  EXPECT_THAT(chat->close(Role::User), ElementsAre(257, '\n'));
  EXPECT_THAT(chat->begin(), ElementsAre());
}

TEST(ChatTemplate, BeginsWithBosWhereModelOrTemplateDo) {
  SmallVocabulary vocabulary({}, {"<s>", "</s>"});
  vocabulary.tables.bos = 256;
  vocabulary.tables.eos = 257;
  const auto begin = [&](const char* family, std::string_view text = "") {
    return ChatTemplate::make(family, text, vocabulary.make())->begin();
  };
  EXPECT_THAT(begin("chatml"), ElementsAre());
  EXPECT_THAT(begin("chatml", "{{ bos_token }}<|im_start|>"), ElementsAre(256));
  EXPECT_THAT(begin("llama3"), ElementsAre(256));
  EXPECT_THAT(begin("llama2"), ElementsAre()) << "each exchange of its own does";
  vocabulary.tables.adds_bos = true;
  EXPECT_THAT(begin("chatml"), ElementsAre(256));
}

TEST(ChatTemplate, FindsTheSystemPromptInTheTemplate) {
  SmallVocabulary vocabulary;
  const auto system = [&](std::string_view text) {
    return ChatTemplate::make("auto", text, vocabulary.make())->default_system();
  };
  EXPECT_EQ(
      system(
          R"({% if x %}{{- '<|im_start|>system\nBe kind, it\'s "free".<|im_end|>\n' }}{% endif %})"),
      "Be kind, it's \"free\".");
  EXPECT_EQ(system("{% if x %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"), "Be brief.");
  EXPECT_EQ(system("{# '<|im_start|>system\nOld.<|im_end|>' #}{{ '<|im_start|>user' }}"), "");
  EXPECT_EQ(system(R"({{ '<|im_start|>system\n' + text + '<|im_end|>\n' }})"), "");
  EXPECT_EQ(system(R"({{ '<|im_start|>system\n<|im_end|>\n' }})"), "");
}

TEST(ChatTemplate, RawAndModelsWithoutATemplateHaveNone) {
  SmallVocabulary vocabulary;
  EXPECT_EQ(ChatTemplate::make("raw", "<|im_start|>", vocabulary.make()), nullptr);
  EXPECT_EQ(ChatTemplate::make("auto", "", vocabulary.make()), nullptr);
}

TEST(ChatTemplate, NamesTheChoicesWhereItFindsNone) {
  SmallVocabulary vocabulary;
  const auto error = [&](const char* family, std::string_view text) -> std::string {
    try {
      ChatTemplate::make(family, text, vocabulary.make());
    } catch (const ModelError& e) {
      return e.what();
    }
    return "no error";
  };
  const auto choices = HasSubstr("chatml, llama3, llama2, zephyr, mistral, gemma, raw");
  EXPECT_THAT(error("auto", "### Instruction: {{ x }}"),
              AllOf(HasSubstr("chat_template"), choices));
  EXPECT_THAT(error("auto", "<|user|>{{ x }}<|end|>{{ eos_token }}"), choices)
      << "of another family";
  EXPECT_THAT(error("alpaca", ""), AllOf(HasSubstr("alpaca"), choices));
  EXPECT_THAT(error("zephyr", ""), HasSubstr("tokenizer.ggml.eos_token_id"));
}

TEST(JinjaLiterals, AnyBytesAreTaken) {
  EXPECT_THAT(jinja_literals("a{{ 'b' + \"c\\n\" }}d{% set x = 'e' %}{# 'f' #}g{h"),
              ElementsAre("a", "b", "c\n", "d", "e", "g{h"));
  for (const char* broken :
       {"", "{", "{{", "{%", "{#", "{{ 'a", "{{ '\\", "{{ 'a' }", "{# a #", "a{"}) {
    jinja_literals(broken);
  }
  EXPECT_THAT(jinja_literals("{{ '}}' }}x"), ElementsAre("}}", "x"));
}

}  // namespace
}  // namespace ringtide::model
