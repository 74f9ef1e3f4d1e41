// Takes what the other shards' engines send to this process's, and notices when one is gone.
//
// It never waits: a shard that computes still receives.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/cluster/carrier.h"
#include "actors/cluster/messages.h"

namespace ringtide::actors::cluster {

struct MailboxState {
  explicit MailboxState(MailboxActor::pointer self) : self(self) {}

  void open(OpenRing& m);
  void meet(const Meet& m);
  void reached(const Reached& m);
  void piece(const RingPiece& m);
  void taken(const RingTaken& m);
  void over(const RingOver& m);
  void down(const caf::down_msg& m);
  void exit();

  void know(int shard, const PeerActor& mailbox);

  MailboxActor::pointer self;
  static inline const char* name = "mailbox";
  OpenRing ring;            // the present one
  bool linked = false;      // all its shards are known
  std::vector<Meet> early;  // of a ring that is not opened yet
};

MailboxActor::behavior_type mailbox(MailboxActor::stateful_pointer<MailboxState> self);

// The end of a ring that `mailbox` receives for. `known`: mailboxes by shard, null where one is to
// come.
std::shared_ptr<RingEnd> open_ring(const MailboxActor& mailbox, uint64_t generation, int shard,
                                   const std::vector<PeerActor>& known,
                                   std::chrono::milliseconds deadline,
                                   std::function<void()> linked);

}  // namespace ringtide::actors::cluster
