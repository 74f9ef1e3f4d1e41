// How turns of a conversation are written for a model: the common families, recognised from the
// template a model file carries. The template's own program is not run.
//
// Markers ("<|im_start|>") are the tokens of that name where the vocabulary has them, and plain
// text where it does not. The literal text between two markers ("user\n") is encoded on its own,
// and so is the text of a turn: no token spans the border between what a family writes and what a
// user wrote, and a turn's tokens do not depend on what stands around it. A turn's text is taken as
// it is; templates that strip it leave that to the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace ringtide::model {

enum class Role : uint8_t { System = 0, User = 1, Assistant = 2 };

// Tokens around the text of a turn. Turns are written one after another: open(role), the text's own
// tokens, close(role); generation follows open(Role::Assistant). Immutable; any thread.
class ChatTemplate {
 public:
  // `family`: "auto" (recognise the model's), or one of families(). Throws ModelError where auto
  // finds none, naming the choices. Null where the family is "raw", or auto meets a model without a
  // template.
  static std::shared_ptr<const ChatTemplate> make(const std::string& family,
                                                  std::string_view model_template,
                                                  std::shared_ptr<const Tokenizer> tokenizer);
  static std::vector<std::string> families();
  virtual ~ChatTemplate() = default;

  virtual std::string family() const = 0;
  virtual std::vector<TokenId> begin() const = 0;  // of the whole conversation (bos, if any)
  virtual std::vector<TokenId> open(Role role) const = 0;
  // As open(role), for the turn right after the system's: some families (llama2, mistral, gemma)
  // write the system prompt inside the first turn of the user, which is open already then.
  virtual std::vector<TokenId> open_after_system(Role role) const { return open(role); }
  virtual std::vector<TokenId> close(Role role) const = 0;
  // The system prompt the model was trained with, used where the caller gives none; may be empty.
  virtual std::string default_system() const = 0;
};

}  // namespace ringtide::model
