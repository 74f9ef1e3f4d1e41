// The text of an answer as it grows: what can be shown, and whether a stop text has come.
//
// Pure. The worker asks it whether generation ends, the session what to show; both feed it the same
// tokens and so agree. Text that may yet turn out to begin a stop text is held back. A character
// spread over tokens, and so a stop text in it, counts when its last byte is there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer.h"

namespace ringtide::actors {

class AnswerText {
 public:
  // `at`: where the answer stands, as Detokenizer takes it.
  AnswerText(std::shared_ptr<const model::Tokenizer> tokenizer, std::vector<std::string> stops,
             model::TextAt at = model::TextAt::Inside);

  // Text that became sure. After a stop text: nothing, ever.
  std::string push(model::TokenId token);
  bool stopped() const { return stopped_; }
  // What is held, when no token follows; empty after a stop text.
  std::string finish();

 private:
  std::string release(bool last);

  model::Detokenizer detokenizer_;
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace ringtide::actors
