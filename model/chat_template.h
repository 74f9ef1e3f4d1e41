// How turns of a conversation are written for a model: as its own template does, or one of the
// common families.
//
// What a template writes is split at its special tokens ("<|im_start|>"), those of the vocabulary;
// other names of this kind are plain text. The literal text between two of them ("user\n") is
// encoded on its own, and so is the text of a turn, in which nothing is special: no token spans the
// border between what a template writes and what a user wrote, and a turn's tokens do not depend on
// what stands around it. A turn's text is taken as it is; templates that strip it leave that to the
// caller. Where the tokenizer marks words with the space before them, a space that a template
// writes right before a text becomes the mark of its first word.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_turns.h"
#include "model/tokenizer.h"

namespace ringtide::model {

// A conversation is begin(system), the user's text, answer(), the answer, end(), next_user(), the
// user's text, answer(), and so on. Immutable; any thread.
class ChatTemplate {
 public:
  // `family`: one of families(), or "auto": the model's own template. Throws ModelError that says
  // what is wrong, naming the choices. Null where the family is "raw", or auto meets a model
  // without a template. `now` is what a template sees as the date.
  static std::shared_ptr<const ChatTemplate> make(const std::string& family,
                                                  std::string_view model_template,
                                                  std::shared_ptr<const Tokenizer> tokenizer,
                                                  std::time_t now = std::time(nullptr));
  static std::vector<std::string> families();

  ChatTemplate(std::string family, ChatTurns turns, std::shared_ptr<const Tokenizer> tokenizer);

  // What makes the same template again: "model" is the model's own.
  const std::string& family() const { return family_; }

  struct Lead {
    std::vector<TokenId> tokens;
    TextAt text = TextAt::Inside;  // where the text that follows them stands
  };
  // Throws ModelError: the template has no place for a system prompt. Empty: there is none.
  Lead begin(std::string_view system) const;
  const Lead& next_user() const { return next_user_; }
  const std::vector<TokenId>& answer() const { return answer_; }
  const std::vector<TokenId>& end() const { return end_; }
  // The system prompt the model was trained with, used where the caller gives none; may be empty.
  const std::string& default_system() const { return turns_.default_system; }

 private:
  // Appends to `lead` what the template writes after it.
  void add(std::string_view written, bool text_follows, Lead& lead) const;

  std::string family_;
  ChatTurns turns_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Lead next_user_;
  std::vector<TokenId> answer_, end_;
};

}  // namespace ringtide::model
