// What a caller chooses of a session's attention policy. Plain values: logged, hashed, sent.
#pragma once

#include <cstdint>
#include <string>

namespace ringtide::model {

enum class PolicyKind : uint8_t { Exact = 0, Streaming = 1, InfLlm = 2 };
// How a unit's relevance is made of its heads' inner products: summed as they are (InfLLM as
// published), or each head's turned into a softmax over the units that are compared first.
enum class HeadVote : uint8_t { Sum = 0, Softmax = 1 };

constexpr int32_t kMostProbe = 1 << 20;

struct PolicyConfig {
  PolicyKind kind = PolicyKind::InfLlm;
  int32_t window = 4096;        // a query sees the last `window` tokens, itself included
  int32_t sinks = 128;          // first tokens of the sequence, always seen; at most `unit`
  int32_t unit = 128;           // tokens a unit; divides window and block
  int32_t block = 512;          // longest execution block; at most window
  int32_t select = 16;          // units a lookup returns
  int32_t representatives = 4;  // keys averaged into a unit's representative, per query head
  HeadVote vote = HeadVote::Softmax;
  // Full groups of 64 units that a lookup looks into; 32 are about 262,000 tokens.
  int32_t probe = 32;
  bool true_positions = false;  // units and sinks at their true distance, not the constant one

  bool operator==(const PolicyConfig&) const = default;
};

// "exact", "streaming", "infllm" and back; throws ModelError naming the choices.
PolicyKind parse_policy(const std::string& name);
std::string to_string(PolicyKind kind);
// Throws ModelError that names the field where the values do not fit together.
void validate(const PolicyConfig& config);

}  // namespace ringtide::model
