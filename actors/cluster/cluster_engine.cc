#include "actors/cluster/cluster_engine.h"

#include <utility>

namespace ringtide::actors::cluster {
namespace {

Call call_of(Call::Op op, model::ContextId id) {
  Call call;
  call.op = op;
  call.contexts = {id};
  return call;
}

}  // namespace

ClusterEngine::ClusterEngine(std::shared_ptr<RingEnd> ring, std::unique_ptr<model::Engine> own,
                             Others others, std::shared_ptr<Activity> activity)
    : ring_(std::move(ring)),
      own_(std::move(own)),
      others_(std::move(others)),
      activity_(std::move(activity)) {}

ClusterEngine::~ClusterEngine() {
  ring_->abort("the leader's engine has ended");
  others_.disband();
}

void ClusterEngine::make(Call call) {
  const Activity::Call at_work(*activity_);
  if (const auto why = ring_->over()) throw model::RingError(*why);
  ledger_.issue(call, *own_);
  others_.send(std::make_shared<const std::vector<char>>(encode(call)));
  try {
    ledger_.run(call, *own_);
  } catch (const model::OutOfBudget&) {
    throw;
  } catch (const model::ModelError&) {
    throw;
  } catch (const std::exception& error) {
    ring_->abort(error.what());
    throw;
  }
}

void ClusterEngine::open(model::ContextId id, const model::PolicyConfig& policy) {
  Call call = call_of(Call::Op::Open, id);
  call.policy = policy;
  make(std::move(call));
}

void ClusterEngine::restore(model::ContextId id, const model::PolicyConfig& policy,
                            std::vector<model::TokenId> tokens,
                            std::vector<int32_t> block_lengths) {
  Call call = call_of(Call::Op::Restore, id);
  call.policy = policy;
  call.tokens = std::move(tokens);
  call.lengths = std::move(block_lengths);
  make(std::move(call));
}

model::Engine::Replay ClusterEngine::replay(model::ContextId id) {
  make(call_of(Call::Op::Replay, id));
  return ledger_.replay();
}

void ClusterEngine::close(model::ContextId id) { make(call_of(Call::Op::Close, id)); }

void ClusterEngine::prefill(model::ContextId id, std::span<const model::TokenId> tokens) {
  Call call = call_of(Call::Op::Prefill, id);
  call.tokens.assign(tokens.begin(), tokens.end());
  make(std::move(call));
}

void ClusterEngine::prefill(model::ContextId id, std::span<const model::TokenId> tokens,
                            std::span<const int32_t> lengths) {
  Call call = call_of(Call::Op::Blocks, id);
  call.tokens.assign(tokens.begin(), tokens.end());
  call.lengths.assign(lengths.begin(), lengths.end());
  make(std::move(call));
}

void ClusterEngine::decode(std::span<const model::DecodeRow> rows) {
  Call call;
  call.op = Call::Op::Decode;
  for (const model::DecodeRow& row : rows) {
    call.contexts.push_back(row.context);
    call.tokens.push_back(row.token);
  }
  make(std::move(call));
}

model::TokenId ClusterEngine::sample(model::ContextId id, const model::SamplingParams& params) {
  const model::SampleRow row{id, params};
  model::TokenId token = 0;
  sample({&row, 1}, {&token, 1});
  return token;
}

void ClusterEngine::sample(std::span<const model::SampleRow> rows,
                           std::span<model::TokenId> tokens) {
  Call call;
  call.op = Call::Op::Sample;
  for (const model::SampleRow& row : rows) {
    call.contexts.push_back(row.context);
    call.sampling.push_back(row.params);
  }
  make(std::move(call));
  const std::vector<model::TokenId>& sampled = ledger_.sampled();
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = sampled.at(i);
}

std::span<const float> ClusterEngine::logits(model::ContextId id) {
  make(call_of(Call::Op::Logits, id));
  return ledger_.logits();
}

}  // namespace ringtide::actors::cluster
