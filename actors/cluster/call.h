// A call of model::Engine as a value, so that every shard of a ring can make the same ones in the
// same order, and what both sides remember of the calls so far.
//
// A call carries where its contexts stand and what came of the call before: a shard that stands
// elsewhere, or saw something else come of it, says so before it computes.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <stdexcept>
#include <vector>

#include "model/engine.h"

namespace ringtide::actors::cluster {

struct Call {
  enum class Op : uint8_t { Open, Restore, Replay, Close, Prefill, Blocks, Decode, Sample, Logits };
  Op op = Op::Open;
  uint64_t number = 0;  // from 0
  uint64_t before = 0;  // what came of the call before; 0 of the first
  std::vector<model::ContextId> contexts;
  std::vector<int64_t> positions;      // of each, tokens processed; -1: none, or on its way back
  model::PolicyConfig policy;          // Open, Restore
  std::vector<model::TokenId> tokens;  // Restore, Prefill, Blocks; Decode: one a context
  std::vector<int32_t> lengths;        // Restore, Blocks
  std::vector<model::SamplingParams> sampling;  // Sample: one a context
};

// For the wire, between processes of one build: numbers as this processor keeps them.
std::vector<char> encode(const Call& call);
// Throws std::runtime_error where the bytes are none that encode() made.
Call decode(std::span<const char> bytes);

// A shard is not where the leader is: says in what.
struct Diverged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One side's memory of the calls. The engine's thread.
class Ledger {
 public:
  // The leader: numbers a call, tells where its contexts stand.
  void issue(Call& call, const model::Engine& engine);
  // A shard: throws Diverged where it is elsewhere.
  void check(const Call& call, const model::Engine& engine) const;

  // Makes the call. Refusals (ModelError, OutOfBudget) are something that may come of a call, and
  // are thrown on; so is everything else.
  void run(const Call& call, model::Engine& engine);
  // Whether the engine has a context that is not on its way back.
  bool stands(model::ContextId id, const model::Engine& engine) const;
  // What came of the last call, where it is not only a change of the engine.
  const model::Engine::Replay& replay() const { return replay_; }
  const std::vector<model::TokenId>& sampled() const { return sampled_; }
  std::span<const float> logits() const { return logits_; }

 private:
  std::vector<int64_t> positions(const Call& call, const model::Engine& engine) const;
  void perform(const Call& call, model::Engine& engine);

  uint64_t next_ = 0;
  uint64_t came_ = 0;                     // of the last call
  std::set<model::ContextId> returning_;  // restored, and not yet replayed
  model::Engine::Replay replay_;
  std::vector<model::TokenId> sampled_;
  std::span<const float> logits_;  // the engine's
};

}  // namespace ringtide::actors::cluster
