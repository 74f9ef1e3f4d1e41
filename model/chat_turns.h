// What a chat template writes between the texts of a conversation, found by having it render
// conversations whose texts are marks.
//
// A session writes as text arrives, and what is written stays. So a template must put the texts in
// their order and write the same between them whatever follows; one that does not is refused. Two
// things are taken as a session has them, not as a rendering of the whole history would: an answer
// stays as it was generated (templates may drop its reasoning later), and so does what invited it.
#pragma once

#include <ctime>
#include <string>

#include "model/jinja.h"
#include "model/tokenizer.h"

namespace ringtide::model {

struct ChatTurns {
  std::string begin;          // before the text of the first user, where there is no system prompt
  std::string before_system;  // and where there is one, before and after it
  std::string after_system;
  std::string no_system;       // why there can be none; empty: there can
  std::string default_system;  // the prompt that the template writes where none is given
  std::string answer;          // from a user's text to the answer
  std::string end;             // closes an answer
  std::string next_user;       // from there to the next user's text
};

// Throws ModelError that says why the template cannot be used.
ChatTurns find_turns(const jinja::Template& chat, const Tokenizer& tokenizer, std::time_t now);

}  // namespace ringtide::model
