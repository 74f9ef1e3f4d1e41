// A session as its log tells it: tokens, and the blocks they run in.
//
// Pure. A live session feeds it each record when it is durable, recovery feeds it the same records
// from the store: there is no second way to a session's tokens, so the two cannot differ.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/turn_state.h"
#include "model/blocks.h"
#include "model/policy_config.h"
#include "model/types.h"
#include "storage/records.h"

namespace ringtide::actors {

model::PolicyConfig to_config(const storage::PolicyRecord& record);
storage::PolicyRecord to_record(const model::PolicyConfig& config);

class SessionLog {
 public:
  // Empty if the record may follow those before; else what is wrong with it, and nothing is
  // changed.
  std::string apply(storage::LogRecord record);

  bool opened() const { return plan_.has_value(); }
  const storage::Opened& opening() const { return opening_; }
  model::PolicyConfig policy() const { return to_config(opening_.policy); }
  const TurnState& state() const { return state_; }
  // Parameters of the generation that began last.
  const storage::Began& began() const { return began_; }

  const std::vector<model::TokenId>& tokens() const { return tokens_; }
  // Lengths of the blocks, in order. Tokens beyond their sum wait for company.
  const std::vector<int32_t>& blocks() const { return plan_->lengths(); }
  int64_t runnable() const { return plan_->planned(); }

 private:
  void extend(const std::vector<int32_t>& tokens);

  storage::Opened opening_;
  storage::Began began_;
  TurnState state_;
  std::vector<model::TokenId> tokens_;
  std::optional<model::BlockPlan> plan_;
};

}  // namespace ringtide::actors
