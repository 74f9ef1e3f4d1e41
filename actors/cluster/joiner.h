// A shard's process: joins a leader's cluster, and serves its rings until it is stopped.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "actors/cluster/address.h"
#include "actors/cluster/shard_engine.h"
#include "actors/cluster/terms.h"
#include "storage/store.h"

namespace ringtide::actors::cluster {

struct JoinerOptions {
  Address leader;
  Address listen;  // where the other shards reach this one; port 0: any free one
  Security security;
  Terms terms;
  std::string name;  // for people
  MakeShardEngine make_engine;
  int64_t unwritten_bytes = 256 << 20;  // of units on their way to the store
  storage::Store* store = nullptr;      // for the units that it owns; outlives the joiner
};

class Joiner {
 public:
  // Throws NetError where it cannot listen. It joins, and joins again, by itself.
  explicit Joiner(JoinerOptions options);
  ~Joiner();
  uint16_t port() const;
  // Why the leader refuses it, once it has; waits up to `most` for that.
  std::optional<std::string> refused(std::chrono::milliseconds most) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtide::actors::cluster
