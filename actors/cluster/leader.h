// The cluster as the leader's process has it: shards join at an address, engines are made on rings
// of them.
//
// Any thread, but as said.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/cluster/address.h"
#include "actors/cluster/holding.h"
#include "actors/cluster/membership.h"
#include "actors/cluster/shard_engine.h"

namespace ringtide::actors::cluster {

struct LeaderOptions {
  Address listen;  // port 0: any free one
  Security security;
  Terms terms;
  MakeShardEngine make_engine;
  int shards = 1;                                     // of the first ring, the leader among them
  std::chrono::milliseconds first_ring{120000};       // to wait for them at most
  std::chrono::milliseconds next_ring{1000};          // to wait for one that comes back
  std::chrono::milliseconds step_deadline{30000};     // of an exchange in a ring
  std::chrono::milliseconds admission{5000};          // a ring lets nobody in before it stood so long
  std::function<std::vector<uint64_t>()> sessions;    // there are: shards drop the units of others
  std::function<void(const std::string& name)> lost;  // a shard is gone, or does not answer
};

class Leader {
 public:
  // Throws NetError where it cannot listen.
  explicit Leader(LeaderOptions options);
  ~Leader();  // engines made before are gone by then
  uint16_t port() const;

  // An engine on a ring of all who have joined; the first one waits for as many as are to be.
  // Called on the thread that drives it. Throws what making it throws, and model::RingError where
  // no ring could be formed.
  std::unique_ptr<model::Engine> make_engine(model::UnitStore& units);
  // Those who have joined; the leader is not among them.
  std::vector<Member> shards() const;
  // What each of them has of a session; whoever does not say so within 2 s has no `holding`. `done`
  // is called once, on a thread that must not wait.
  void held(uint64_t session, std::function<void(std::vector<ShardHolding>)> done) const;
  // No more rings: whoever waits for one gets RingError that says why. Engines go on.
  void close(const std::string& why);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ringtide::actors::cluster
