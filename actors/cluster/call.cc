#include "actors/cluster/call.h"

#include <string>
#include <utility>

namespace ringtide::actors::cluster {
namespace {

// Of what came of a call: any order-dependent hash of 64 bits.
uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

enum class Came : uint64_t { Done = 1, NoRoom, Refused };

}  // namespace

void Ledger::issue(Call& call, const model::Engine& engine) {
  call.number = next_;
  call.before = came_;
  call.positions = positions(call, engine);
}

void Ledger::check(const Call& call, const model::Engine& engine) const {
  const std::string which = "call " + std::to_string(call.number);
  if (call.number != next_) {
    throw Diverged(which + " came where call " + std::to_string(next_) + " is next");
  }
  if (call.before != came_) throw Diverged("before " + which + " something else came of a call");
  const std::vector<int64_t> here = positions(call, engine);
  for (size_t i = 0; i < here.size(); ++i) {
    if (i < call.positions.size() && here[i] == call.positions[i]) continue;
    throw Diverged(which + " finds context " + std::to_string(call.contexts[i]) + " at token " +
                   std::to_string(here[i]) + ", not where the leader has it");
  }
}

void Ledger::run(const Call& call, model::Engine& engine) {
  ++next_;
  came_ = mix(came_, static_cast<uint64_t>(call.op));
  try {
    perform(call, engine);
    came_ = mix(came_, static_cast<uint64_t>(Came::Done));
  } catch (const model::OutOfBudget&) {
    came_ = mix(came_, static_cast<uint64_t>(Came::NoRoom));
    throw;
  } catch (const model::ModelError&) {
    came_ = mix(came_, static_cast<uint64_t>(Came::Refused));
    throw;
  }
}

std::vector<int64_t> Ledger::positions(const Call& call, const model::Engine& engine) const {
  std::vector<int64_t> at;
  for (const model::ContextId id : call.contexts) {
    at.push_back(stands(id, engine) ? engine.stats(id).tokens : -1);
  }
  return at;
}

bool Ledger::stands(model::ContextId id, const model::Engine& engine) const {
  return engine.has(id) && !returning_.contains(id);
}

void Ledger::perform(const Call& call, model::Engine& engine) {
  const model::ContextId id = call.contexts.empty() ? 0 : call.contexts.front();
  switch (call.op) {
    case Call::Op::Open:
      return engine.open(id, call.policy);
    case Call::Op::Restore:
      returning_.erase(id);
      engine.restore(id, call.policy, call.tokens, call.lengths);
      returning_.insert(id);
      return;
    case Call::Op::Replay:
      replay_ = engine.replay(id);
      came_ = mix(mix(came_, static_cast<uint64_t>(replay_.done)), replay_.finished);
      if (replay_.finished) returning_.erase(id);
      return;
    case Call::Op::Close:
      returning_.erase(id);
      return engine.close(id);
    case Call::Op::Prefill:
      return engine.prefill(id, call.tokens);
    case Call::Op::Blocks:
      return engine.prefill(id, call.tokens, call.lengths);
    case Call::Op::Decode: {
      std::vector<model::DecodeRow> rows;
      for (size_t i = 0; i < call.contexts.size(); ++i)
        rows.push_back({call.contexts[i], call.tokens.at(i)});
      return engine.decode(rows);
    }
    case Call::Op::Sample: {
      std::vector<model::SampleRow> rows;
      for (size_t i = 0; i < call.contexts.size(); ++i)
        rows.push_back({call.contexts[i], call.sampling.at(i)});
      sampled_.assign(rows.size(), 0);
      engine.sample(rows, sampled_);
      for (const model::TokenId token : sampled_) came_ = mix(came_, static_cast<uint64_t>(token));
      return;
    }
    case Call::Op::Logits:
      logits_ = engine.logits(id);
      return;
  }
  throw std::runtime_error("a call of no known kind");
}

}  // namespace ringtide::actors::cluster
