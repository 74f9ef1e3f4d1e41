// A shard's process in the cluster: joins, is a shard of one ring after another, joins again when
// it has lost the leader or was told to go.
//
// On a thread of its own: it drives the engine. What ends a ring in the middle of a call reaches it
// through the mailbox.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "actors/cluster/call.h"
#include "actors/cluster/messages.h"
#include "actors/cluster/net.h"
#include "actors/cluster/shard_engine.h"
#include "actors/cluster/shard_units.h"

namespace ringtide::actors::cluster {

// What a shard is made of. All but the handles outlive the actor system.
struct MemberParts {
  Net* net = nullptr;
  Address leader;
  Terms terms;
  Member who;  // as the others are to know it
  MailboxActor mailbox;
  MakeShardEngine make_engine;
  ShardUnits* units = nullptr;
  std::function<void(const std::string& why)> refused;  // by the leader, for good
};

struct MemberState {
  explicit MemberState(MemberActor::pointer self) : self(self) {}

  // -- membership ----
  void join(const RejoinNow& m);
  void joined(const Joined& m);
  void refused(const RefusedJoin& m);
  void expelled(const Expelled& m);
  void down(const caf::down_msg& m);
  void rejoin(std::chrono::milliseconds after);

  // -- the ring ----
  void form(const Form& m);
  void linked(const RingLinked& m);
  void begin(const Begin& m);
  void call(const MakeCall& m);
  void disband(const Disband& m);
  void tell(const TellHeld& m);
  void broken(const std::string& why, MemberId unreachable = 0);
  void drop();

  MemberActor::pointer self;
  static inline const char* name = "shard";
  MemberParts parts;
  // Membership.
  LeaderActor leader;    // null: not connected
  MemberId id = 0;       // 0: no member
  uint64_t attempt = 0;  // to join
  std::chrono::milliseconds stays_away{0};  // the last time that it was told to go
  // The ring.
  uint64_t generation = 0;
  std::shared_ptr<RingEnd> end;           // null: none
  std::unique_ptr<model::Engine> engine;  // goes before `end`
  Ledger ledger;
};

MemberActor::behavior_type member(MemberActor::stateful_pointer<MemberState> self,
                                  MemberParts parts);

}  // namespace ringtide::actors::cluster
