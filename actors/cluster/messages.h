// Every type that crosses the actors of a cluster, and who may be told what.
//
// Each process of a cluster has a mailbox, which takes what the other shards' engines send to its
// own; the leader has a registry, every other process a shard. `generation` numbers rings: what
// speaks of another than the present one is ignored. All of it is of version kProtocol (terms.h).
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/meta/type_name.hpp>
#include <caf/replies_to.hpp>
#include <caf/type_id.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "actors/cluster/buffer.h"
#include "actors/cluster/holding.h"
#include "actors/cluster/membership.h"
#include "actors/cluster/ring_end.h"
#include "actors/cluster/terms.h"

namespace ringtide::actors::cluster {

struct AskHeld;
struct Begin;
struct Broken;
struct Disband;
struct Expelled;
struct Form;
struct FormRing;
struct Held;
struct HeldLate;
struct Join;
struct Joined;
struct Late;
struct Linked;
struct ListShards;
struct MakeCall;
struct Meet;
struct OpenRing;
struct Reached;
struct RefusedJoin;
struct RejoinNow;
struct RingLinked;
struct RingOver;
struct RingPiece;
struct RingTaken;
struct Settled;
struct Silent;
struct TellHeld;

// -- who they are, to other processes ----

using PeerActor = caf::typed_actor<caf::reacts_to<Meet>,  // a shard of my ring, and its mailbox
                                   caf::reacts_to<RingPiece>,  // bytes for my engine
                                   caf::reacts_to<RingTaken>,  // mine were taken
                                   caf::reacts_to<RingOver>>;  // the ring has failed

using ShardActor = caf::typed_actor<caf::reacts_to<Joined>,       // a member now
                                    caf::reacts_to<RefusedJoin>,  // never, as it is
                                    caf::reacts_to<Form>,         // be this shard of a ring
                                    caf::reacts_to<Begin>,        // all are linked: make an engine
                                    caf::reacts_to<MakeCall>,     // of the engine
                                    caf::reacts_to<Disband>,      // the ring is over
                                    caf::reacts_to<TellHeld>,     // what it has of a session
                                    caf::reacts_to<Expelled>>;    // no member any more; join anew

using LeaderActor =
    caf::typed_actor<caf::reacts_to<Join>,     // let me in
                     caf::reacts_to<Linked>,   // I have heard of the ring; I reach all its shards
                     caf::reacts_to<Held>,     // what I have of a session
                     caf::reacts_to<Broken>>;  // I cannot go on in it

// -- and to their own ----

using MailboxActor =
    PeerActor::extend<caf::reacts_to<OpenRing>,  // take for this end from now on
                      caf::reacts_to<Reached>>;  // a shard that was asked for answers

using MemberActor =
    ShardActor::extend<caf::reacts_to<RejoinNow>,    // to itself: try to join
                       caf::reacts_to<RingLinked>>;  // the mailbox knows all shards of the ring

using RegistryActor =
    LeaderActor::extend<caf::reacts_to<FormRing>,     // the next ring
                        caf::reacts_to<Late>,         // to itself: time is up
                        caf::reacts_to<Settled>,      // to itself: who came may be let in
                        caf::reacts_to<Silent>,       // to itself: who was set aside is still
                        caf::reacts_to<ListShards>,   // who there is
                        caf::reacts_to<AskHeld>,      // who has what of a session
                        caf::reacts_to<HeldLate>>;    // to itself: who has not answered will not

// -- joining ----

struct Join {
  Terms terms;
  Member who;  // its id is not known yet
  ShardActor shard;
  PeerActor mailbox;
};
struct Joined {
  MemberId id = 0;
};
struct RefusedJoin {
  std::string why;
};
struct Expelled {
  std::string why;
};

// -- a ring's life ----

struct Form {
  uint64_t generation = 0;
  int32_t shard = 0;
  std::vector<Member> shards;  // shard i is shards[i - 1]
  PeerActor leader;            // shard 0's mailbox
  int64_t deadline_ms = 0;     // of a step
};
struct Linked {
  uint64_t generation = 0;
  MemberId from = 0;
  bool all = false;  // it reaches all shards; else it has only heard of the ring
};
struct Begin {
  uint64_t generation = 0;
  std::vector<uint64_t> sessions;  // that there are: units of others may go
};
struct MakeCall {
  uint64_t generation = 0;
  Buffer call;  // encode()
};
struct Broken {
  uint64_t generation = 0;
  MemberId from = 0;
  std::string why;
  MemberId unreachable = 0;  // who was not reached; 0: that is not it
};
struct Disband {
  uint64_t generation = 0;
};

// -- what a shard has of a session ----

struct TellHeld {
  uint64_t question = 0;
  uint64_t session = 0;  // the leader's number
};
struct Held {
  uint64_t question = 0;
  MemberId from = 0;
  Holding holding;
};

// -- between mailboxes ----

struct Meet {
  uint64_t generation = 0;
  int32_t shard = 0;  // the sender's
  PeerActor mailbox;
};
struct RingPiece {
  uint64_t generation = 0;
  int32_t from = 0;
  bool gathered = false;
  uint64_t step = 0, size = 0, offset = 0;
  Buffer bytes;
};
struct RingTaken {
  uint64_t generation = 0;
  int32_t from = 0;
  uint64_t step = 0;
};
struct RingOver {
  uint64_t generation = 0;
  std::string why;
};

// -- inside a process ----

class Peers;  // carrier.h

struct OpenRing {
  uint64_t generation = 0;
  std::shared_ptr<RingEnd> end;
  std::shared_ptr<Peers> peers;
  std::function<void()> linked;  // called once all are known
};
struct Reached {
  uint64_t generation = 0;
  int32_t shard = 0;
  PeerActor mailbox;
};
struct RingLinked {
  uint64_t generation = 0;
};
struct RejoinNow {
  uint64_t attempt = 0;
};

// What the leader's engine is made on.
struct Ring {
  uint64_t generation = 0;
  std::shared_ptr<RingEnd> end;    // null: no ring, `why` says why
  std::vector<ShardActor> shards;  // but the leader
  std::vector<Member> members;
  std::string why;
  bool short_of_members = false;  // that is why
};
struct FormRing {
  size_t members = 0;              // to wait for
  int64_t wait_ms = 0;             // at most so long
  bool required = false;           // no ring of fewer
  std::vector<uint64_t> sessions;  // for Begin
  std::function<void(Ring)> done;
};
struct Late {
  uint64_t watch = 0;
};
struct Settled {
  uint64_t generation = 0;
};
struct Silent {
  MemberId id = 0;
  uint64_t generation = 0;  // of the ring that it did not answer
};
struct ListShards {
  std::function<void(std::vector<Member>)> done;
};
struct AskHeld {
  uint64_t session = 0;
  std::function<void(std::vector<ShardHolding>)> done;
};
struct HeldLate {
  uint64_t question = 0;
};

// -- fields, for the wire ----

template <class I>
typename I::result_type inspect(I& f, Term& x) {
  return f(caf::meta::type_name("Term"), x.name, x.value);
}
template <class I>
typename I::result_type inspect(I& f, Member& x) {
  return f(caf::meta::type_name("Member"), x.id, x.name, x.host, x.port);
}
template <class I>
typename I::result_type inspect(I& f, Join& x) {
  return f(caf::meta::type_name("Join"), x.terms, x.who, x.shard, x.mailbox);
}
template <class I>
typename I::result_type inspect(I& f, Joined& x) {
  return f(caf::meta::type_name("Joined"), x.id);
}
template <class I>
typename I::result_type inspect(I& f, RefusedJoin& x) {
  return f(caf::meta::type_name("RefusedJoin"), x.why);
}
template <class I>
typename I::result_type inspect(I& f, Expelled& x) {
  return f(caf::meta::type_name("Expelled"), x.why);
}
template <class I>
typename I::result_type inspect(I& f, Form& x) {
  return f(caf::meta::type_name("Form"), x.generation, x.shard, x.shards, x.leader, x.deadline_ms);
}
template <class I>
typename I::result_type inspect(I& f, Linked& x) {
  return f(caf::meta::type_name("Linked"), x.generation, x.from, x.all);
}
template <class I>
typename I::result_type inspect(I& f, Begin& x) {
  return f(caf::meta::type_name("Begin"), x.generation, x.sessions);
}
template <class I>
typename I::result_type inspect(I& f, MakeCall& x) {
  return f(caf::meta::type_name("MakeCall"), x.generation, x.call);
}
template <class I>
typename I::result_type inspect(I& f, Broken& x) {
  return f(caf::meta::type_name("Broken"), x.generation, x.from, x.why, x.unreachable);
}
template <class I>
typename I::result_type inspect(I& f, Disband& x) {
  return f(caf::meta::type_name("Disband"), x.generation);
}
template <class I>
typename I::result_type inspect(I& f, Holding& x) {
  return f(caf::meta::type_name("Holding"), x.units, x.unit_bytes, x.ram_bytes);
}
template <class I>
typename I::result_type inspect(I& f, TellHeld& x) {
  return f(caf::meta::type_name("TellHeld"), x.question, x.session);
}
template <class I>
typename I::result_type inspect(I& f, Held& x) {
  return f(caf::meta::type_name("Held"), x.question, x.from, x.holding);
}
template <class I>
typename I::result_type inspect(I& f, Meet& x) {
  return f(caf::meta::type_name("Meet"), x.generation, x.shard, x.mailbox);
}
template <class I>
typename I::result_type inspect(I& f, RingPiece& x) {
  return f(caf::meta::type_name("RingPiece"), x.generation, x.from, x.gathered, x.step, x.size,
           x.offset, x.bytes);
}
template <class I>
typename I::result_type inspect(I& f, RingTaken& x) {
  return f(caf::meta::type_name("RingTaken"), x.generation, x.from, x.step);
}
template <class I>
typename I::result_type inspect(I& f, RingOver& x) {
  return f(caf::meta::type_name("RingOver"), x.generation, x.why);
}

}  // namespace ringtide::actors::cluster

CAF_BEGIN_TYPE_ID_BLOCK(ringtide_cluster, caf::first_custom_type_id + 1000)
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Begin))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Broken))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Disband))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Expelled))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Form))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Held))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Join))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Joined))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Linked))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::MakeCall))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::Meet))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::RefusedJoin))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::RingOver))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::RingPiece))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::RingTaken))
CAF_ADD_TYPE_ID(ringtide_cluster, (ringtide::actors::cluster::TellHeld))
CAF_END_TYPE_ID_BLOCK(ringtide_cluster)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::AskHeld)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::FormRing)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::HeldLate)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::Late)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::ListShards)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::OpenRing)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::Reached)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::RejoinNow)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::RingLinked)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::Settled)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::cluster::Silent)
