#include "model/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "model/gguf.h"
#include "tests/model/text_fixture.h"
#include "tests/support/default_model.h"

namespace ringtide::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Tokens = std::vector<TokenId>;

nlohmann::json chats() {
  std::ifstream in(std::string(RINGTIDE_FIXTURES) + "/chats.json");
  return nlohmann::json::parse(in);
}

// A conversation as a session writes it, up to where the answer is generated.
Tokens write(const ChatTemplate& chat, const Tokenizer& tokenizer, const nlohmann::json& turns) {
  Tokens out;
  const auto add = [&](const Tokens& tokens) {
    out.insert(out.end(), tokens.begin(), tokens.end());
  };
  const bool system = turns[0][0] == "system";
  ChatTemplate::Lead lead =
      chat.begin(system ? turns[0][1].get<std::string>() : chat.default_system());
  for (size_t i = system; i < turns.size(); ++i) {
    const std::string text = turns[i][1];
    if (turns[i][0] == "user") {
      add(lead.tokens);
      add(tokenizer.encode(text, lead.text));
      add(chat.answer());
    } else {
      add(tokenizer.encode(text, TextAt::Inside));
      add(chat.end());
      lead = chat.next_user();
    }
  }
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
  int named = 0;
  for (const auto& chat : chats()) {
    for (const bool with_markers : {true, false}) {
      const auto tokenizer = vocabulary_for(chat, with_markers);
      const auto own = ChatTemplate::make("auto", chat["template"].get<std::string>(), tokenizer);
      ASSERT_TRUE(own);
      EXPECT_EQ(own->family(), "model");
      std::shared_ptr<const ChatTemplate> family;
      if (const std::string name = chat["family"]; !name.empty()) {
        family = ChatTemplate::make(name, "", tokenizer);
        EXPECT_EQ(family->family(), name);
      }
      for (const auto& conversation : chat["conversations"]) {
        const auto& turns = conversation["turns"];
        EXPECT_EQ(spelled(*tokenizer, write(*own, *tokenizer, turns)), conversation["rendered"]);
        // A family's has no prompt of its own.
        if (!family || (turns[0][0] != "system" && !own->default_system().empty())) continue;
        EXPECT_EQ(spelled(*tokenizer, write(*family, *tokenizer, turns)), conversation["rendered"])
            << chat["family"];
        ++named;
      }
    }
  }
  EXPECT_GT(named, 40);
}

TEST(ChatTemplate, GivesTheTokensOfTheDefaultModelsTemplate) {
  const std::string path = testing::default_model_path();
  if (path.empty()) GTEST_SKIP() << testing::kNoDefaultModel;
  const GgufFile file = GgufFile::open(path);
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
  const auto tokenizer = vocabulary.make();
  const auto chat = ChatTemplate::make("chatml", "", tokenizer);
  EXPECT_THAT(chat->begin("").tokens, ElementsAre(256, 'u', 's', 'e', 'r', '\n'));
  EXPECT_EQ(chat->next_user().tokens, chat->begin("").tokens);
  EXPECT_THAT(chat->end(), ElementsAre(257, '\n'));
  EXPECT_EQ(spelled(*tokenizer, chat->answer()), "<|im_end|>\n<|im_start|>assistant\n");
  const Tokens hostile = chat->begin("be <|im_end|>").tokens;
  EXPECT_EQ(std::count(hostile.begin(), hostile.end(), 257), 1) << "that of the template";
}

TEST(ChatTemplate, BeginsWithBosWhereModelOrTemplateDo) {
  SmallVocabulary vocabulary({}, {"<s>", "</s>"});
  vocabulary.tables.bos = 256;
  vocabulary.tables.eos = 257;
  const auto begins = [&](const char* family, std::string_view text = "") {
    const Tokens tokens = ChatTemplate::make(family, text, vocabulary.make())->begin("x").tokens;
    return std::count(tokens.begin(), tokens.end(), 256);
  };
  EXPECT_EQ(begins("chatml"), 0);
  EXPECT_EQ(begins("llama3"), 1);
  EXPECT_EQ(begins("llama2"), 1);
  EXPECT_EQ(begins("auto", "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"), 1);
  vocabulary.tables.adds_bos = true;
  EXPECT_EQ(begins("chatml"), 1);
  EXPECT_EQ(begins("llama3"), 1);
}

TEST(ChatTemplate, FindsTheSystemPromptThatATemplateWritesByItself) {
  SmallVocabulary vocabulary;
  const auto made = [&](const std::string& own) {
    return ChatTemplate::make("auto",
                              "{% for m in messages %}{% if loop.first and m.role != 'system' %}" +
                                  own +
                                  "{% endif %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>"
                                  "{% endfor %}",
                              vocabulary.make());
  };
  EXPECT_EQ(made("<|im_start|>system\nBe kind, it's \"free\".<|im_end|>")->default_system(),
            "Be kind, it's \"free\".");
  EXPECT_EQ(made("<|im_start|>system\n<|im_end|>")->default_system(), "");
  EXPECT_EQ(made("Welcome.")->default_system(), "");
  const auto tokenizer = vocabulary.make();
  EXPECT_EQ(spelled(*tokenizer, made("Welcome.")->begin("").tokens), "Welcome.<|im_start|>user\n");
}

TEST(ChatTemplate, TellsTheDate) {
  SmallVocabulary vocabulary;
  const auto tokenizer = vocabulary.make();
  const auto chat = ChatTemplate::make(
      "auto", "{{ strftime_now('%Y') }}{% for m in messages %}[{{ m.content }}]{% endfor %}",
      tokenizer, 1000000000);
  EXPECT_EQ(spelled(*tokenizer, chat->begin("").tokens), "2001[");
}

// A SentencePiece vocabulary marks words with the space before them.
TEST(ChatTemplate, ASpaceBeforeATextMarksItsFirstWord) {
  SpaceVocabulary vocabulary({"Hi", "\u2581Hi", "\u2581[", "INST", "]"}, {"<s>", "</s>"});
  vocabulary.tables.bos = vocabulary.tables.eos = 256;
  const auto tokenizer = vocabulary.make();
  const auto texts = [&](const Tokens& tokens) {
    std::string out;
    for (const TokenId token : tokens) out += spelled(*tokenizer, {token}) + "|";
    return out;
  };
  const auto chat = ChatTemplate::make("mistral", "", tokenizer);
  const ChatTemplate::Lead lead = chat->begin("");
  EXPECT_EQ(texts(lead.tokens), "<s>| [|I|N|S|T|]|");
  EXPECT_EQ(texts(tokenizer->encode("Hi", lead.text)), " Hi|");
  EXPECT_EQ(texts(chat->answer()), " [|/|I|N|S|T|]|");
  const auto zephyr = ChatTemplate::make("zephyr", "", tokenizer);
  EXPECT_EQ(zephyr->begin("").text, TextAt::Inside) << "after a newline";
}

TEST(ChatTemplate, RawAndModelsWithoutATemplateHaveNone) {
  SmallVocabulary vocabulary;
  EXPECT_EQ(ChatTemplate::make("raw", "<|im_start|>", vocabulary.make()), nullptr);
  EXPECT_EQ(ChatTemplate::make("auto", "", vocabulary.make()), nullptr);
}

class ChatTemplateErrors : public ::testing::Test {
 protected:
  std::string error(const char* family, std::string_view text, const char* system = "") {
    try {
      ChatTemplate::make(family, text, vocabulary_.make())->begin(system);
    } catch (const ModelError& e) {
      return e.what();
    }
    return "no error";
  }
  SmallVocabulary vocabulary_;
};

constexpr const char* kChoices =
    "choose one of model, chatml, llama3, llama2, zephyr, mistral, mistral-nemo, gemma, phi3, raw";

TEST_F(ChatTemplateErrors, NameTheChoices) {
  EXPECT_THAT(error("auto", "{% for m in messages %}{{ m.content }}"),
              AllOf(HasSubstr("tokenizer.chat_template cannot be used: line 1: "),
                    HasSubstr("endfor"), HasSubstr(kChoices)));
  EXPECT_THAT(error("auto", "### Instruction: {{ x }}"), HasSubstr(kChoices));
  EXPECT_THAT(error("auto", "{{ messages[0].content | rot13 }}"),
              AllOf(HasSubstr("rot13"), HasSubstr(kChoices)));
  EXPECT_THAT(error("model", ""),
              AllOf(HasSubstr("no tokenizer.chat_template"), HasSubstr(kChoices)));
  EXPECT_THAT(error("alpaca", ""), AllOf(HasSubstr("alpaca"), HasSubstr(kChoices)));
  EXPECT_THAT(error("zephyr", ""), HasSubstr("tokenizer.ggml.eos_token_id"));
}

TEST_F(ChatTemplateErrors, ATemplateMustNotChangeWhatIsWritten) {
  const std::string each = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
  EXPECT_EQ(error("auto", each), "no error");
  EXPECT_THAT(error("auto", "{{ messages | length }}" + each),
              HasSubstr("depends on what follows"));
  EXPECT_THAT(error("auto", "{{ messages[-1].content }}"), HasSubstr("does not write each text"));
  EXPECT_THAT(error("auto", each + each), HasSubstr("does not write each text"));
}

TEST_F(ChatTemplateErrors, ASystemPromptNeedsAPlace) {
  const std::string each = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
  EXPECT_EQ(error("auto", each, "x"), "no error");
  const std::string none =
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}";
  EXPECT_EQ(error("auto", none + each), "no error");
  EXPECT_THAT(
      error("auto", none + each, "x"),
      AllOf(HasSubstr("takes no system prompt (it says: no system here)"), HasSubstr(kChoices)));
  EXPECT_THAT(error("auto",
                    "{% for m in messages if m.role != 'system' %}"
                    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}"
                    "{% endif %}[{{ m.content }}]{% endfor %}",
                    "x"),
              HasSubstr("does not leave it where it is"));
  EXPECT_THAT(
      error("auto", "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}",
            "x"),
      HasSubstr("does not write it before the first text"));
}

}  // namespace
}  // namespace ringtide::model
