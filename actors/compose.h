// Writes the next record of a session: text to tokens, turns opened and closed around it.
//
// Pure; `state` is where the log stands before the record. `chat` is null for raw sessions, which
// have no turns: there only the text's tokens, after a bos if the tokenizer asks for one.
#pragma once

#include <string>
#include <string_view>

#include "actors/turn_state.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"
#include "model/types.h"
#include "protocol/service.h"
#include "storage/records.h"

namespace ringtide::actors {

struct Writing {
  const model::Tokenizer& tokenizer;
  const model::ChatTemplate* chat = nullptr;
  std::string_view system;  // prompt; empty: no system turn
};

// REQUIRES: no generation is under way.
storage::Appended compose_append(const Writing& w, const TurnState& state, std::string text);
// REQUIRES: cannot_begin() is empty.
storage::Began compose_began(const Writing& w, const TurnState& state,
                             const protocol::GenerateParams& params);
// Closes what generation opened: the tokens of the turn's end that the model did not write itself.
storage::Ended compose_ended(const Writing& w, const TurnState& state,
                             protocol::FinishReason reason);

// Why generation cannot begin here, for a person; empty if it can. An answer needs an open user
// turn; in a raw session, any token at all.
std::string cannot_begin(const Writing& w, const TurnState& state);
// What is wrong with the parameters; empty if nothing.
std::string invalid(const protocol::GenerateParams& params);

model::SamplingParams sampling(const storage::Began& began);

}  // namespace ringtide::actors
