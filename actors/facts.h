// What is constant for the life of the process and known to every actor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/policy_config.h"
#include "model/tokenizer.h"
#include "protocol/service.h"

namespace ringtide::actors {

// Of a session as this process has it, who of a ring's shards holds what; calls `done` once, from any
// thread.
using AskShards = std::function<void(
    const protocol::SessionInfo& session,
    std::function<void(std::vector<protocol::ShardInfo>)> done)>;

// Why the engine does not serve sessions of a policy; empty: it does.
using PolicyRefusal = std::function<std::string(const model::PolicyConfig&)>;

struct Facts {
  std::shared_ptr<const model::Tokenizer> tokenizer;
  std::string chat_template;  // the model's own
  std::string model, fingerprint, version, store_path;
  int64_t trained_context = 0;
  int64_t weight_bytes = 0;
  int32_t threads = 1;
  protocol::Policy default_policy;
  size_t max_sessions = 256;
  size_t max_queued_bytes = 8 << 20;
  AskShards shards;       // empty: no ring
  PolicyRefusal refusal;  // empty: every policy is served
  // Blocks that a session hands over: those of a plan that runs and of one that waits.
  size_t blocks_ahead = 2;
};

using FactsPtr = std::shared_ptr<const Facts>;

}  // namespace ringtide::actors
