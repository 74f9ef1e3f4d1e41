// The other shards' mailboxes, as a ring's end sends to them.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "actors/cluster/messages.h"

namespace ringtide::actors::cluster {

// The mailboxes of a ring's shards, as they become known. Any thread.
class Peers {
 public:
  explicit Peers(int shards) : mailboxes_(shards) {}
  void set(int shard, PeerActor mailbox);
  PeerActor at(int shard) const;  // null: not known
  std::vector<PeerActor> all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<PeerActor> mailboxes_;
};

std::unique_ptr<Carrier> make_carrier(uint64_t generation, int shard,
                                      std::shared_ptr<const Peers> peers);

}  // namespace ringtide::actors::cluster
