// What is logged of a session: the events from which it can be made again, and nothing that follows
// from them. Bytes on disk: FORMAT.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "storage/status.h"

namespace ringtide::storage {

// Of sessions from before there was a number: they looked into everything.
constexpr int32_t kProbeAll = 1 << 20;

// Attention policy as plain numbers; meaning and names are the model room's
// (model/policy_config.h).
struct PolicyRecord {
  uint8_t kind = 0, vote = 0, true_positions = 0;
  int32_t window = 0, sinks = 0, unit = 0, block = 0, select = 0, representatives = 0;
  int32_t probe = kProbeAll;
  bool operator==(const PolicyRecord&) const = default;
};

// First record of every session.
struct Opened {
  PolicyRecord policy;
  std::string model;            // the model's fingerprint
  std::string template_family;  // "raw", "chatml", ...
  std::string system;           // system prompt, already chosen
  bool operator==(const Opened&) const = default;
};

// Text arrived. `tokens` became certain by it, together with the tail kept before; the tail that is
// kept now is the old tail and the text less the first `consumed` bytes.
struct Appended {
  std::string text;
  uint64_t consumed = 0;
  std::vector<int32_t> tokens;  // template tokens that open the turn come first
  uint8_t opens_turn = 0;       // a user turn was opened by this append
  bool operator==(const Appended&) const = default;
};

// Generation began: the tail was tokenised, the turn closed and the assistant's opened.
struct Began {
  std::vector<int32_t> tokens;
  float temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
  int32_t top_k = 0, penalty_window = 0;
  uint64_t seed = 0;
  int64_t max_tokens = 0;
  std::vector<std::string> stop;
  bool operator==(const Began&) const = default;
};

// Tokens were generated, in order.
struct Generated {
  std::vector<int32_t> tokens;
  bool operator==(const Generated&) const = default;
};

// Generation ended. Tokens that close the assistant's turn, if the model did not write them.
struct Ended {
  uint8_t reason = 0;  // protocol's FinishReason
  std::vector<int32_t> tokens;
  bool operator==(const Ended&) const = default;
};

using LogRecord = std::variant<Opened, Appended, Began, Generated, Ended>;

std::string encode(const LogRecord& record);
// Corrupt, or Newer with the version found.
Result<LogRecord> decode(std::span<const std::byte> bytes);

}  // namespace ringtide::storage
