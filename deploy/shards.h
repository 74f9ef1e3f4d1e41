// The ring's side of `serve` and `join`: what shards must have in common, where they listen, and
// the shards that `serve` starts itself.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "actors/cluster/leader.h"
#include "deploy/children.h"
#include "deploy/machine.h"
#include "deploy/options.h"
#include "model/cpu_weights.h"
#include "protocol/service.h"
#include "storage/store.h"

namespace ringtide::deploy {

// What `serve` and `join` must agree on for their engines to compute the same bits.
actors::cluster::Terms shard_terms(const std::string& fingerprint, const ServerOptions& options,
                                   const Machine& machine);
// --shard-listen, or loopback. Throws Failure where it must not be listened at, and says why.
actors::cluster::Address shard_address(const ClusterOptions& options);
// Throws Failure (Usage) where that address needs certificates that are not given.
void require_safe(const actors::cluster::Address& address, const ClusterOptions& options);
// A shard computes on processors. Throws Failure where --device asks for something else.
void require_processor(const std::string& device);
using ShardWeights = std::shared_future<std::shared_ptr<const model::CpuWeights>>;
// Packs them on a thread of its own; get() throws what that throws.
ShardWeights pack_weights(const std::shared_ptr<const model::Model>& model,
                          const model::EngineOptions& options);
// Waits for the weights.
actors::cluster::MakeShardEngine shard_engine(std::shared_ptr<const model::Model> model,
                                              const model::EngineOptions& options,
                                              ShardWeights weights);

// The leader of a ring, and the shards that belong to this process.
class Shards {
 public:
  // `engine`: the leader's; `store`, the sessions', outlives it. Throws Failure where it cannot
  // listen.
  Shards(const ServerOptions& options, const std::string& model_path,
         const model::EngineOptions& engine, actors::cluster::Terms terms,
         actors::cluster::MakeShardEngine make, storage::Store& store);
  ~Shards();
  actors::cluster::Leader& leader() { return *leader_; }
  std::string address() const;  // where shards join
  // Who holds what of a session, the leader first; `session` is as the leader has it.
  void ask(const protocol::SessionInfo& session,
           std::function<void(std::vector<protocol::ShardInfo>)> done) const;
  // An engine stood: a shard that cannot be started is no reason to end any more.
  void ready() { ready_ = true; }

 private:
  storage::Store& store_;
  const actors::cluster::Address listen_;
  std::atomic<bool> ready_{false};
  std::unique_ptr<Children> children_;  // null: not started yet
  std::mutex mutex_;                    // guards children_
  std::unique_ptr<actors::cluster::Leader> leader_;
};

}  // namespace ringtide::deploy
