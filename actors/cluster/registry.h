// The leader's registry: lets shards in, notices when they go, forms rings of them.
//
// Each ring that ends costs sessions a pause, so that none ends without need. One that computes and
// has no time to answer is left out, not thrown out: it would have to start anew and join, for two
// rings more. Who joins, or is back, is taken in once the ring has stood for a while and nobody
// waits for its engine, or when it has stood for longer than anybody should be kept out.
#pragma once

#include <atomic>
#include <caf/actor_clock.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "actors/cluster/mailbox.h"
#include "actors/cluster/membership.h"
#include "actors/cluster/messages.h"

namespace ringtide::actors::cluster {

struct RegistryParts {
  Terms terms;
  uint64_t generation = 0;  // of the last ring of any leader before
  MailboxActor mailbox;
  std::chrono::milliseconds step_deadline{30000};
  std::chrono::milliseconds link_deadline{5000};
  std::chrono::milliseconds settle{500};  // who joins has so long for others to join with it
  std::chrono::milliseconds admission{
      5000};  // a ring stands at least so long before it lets them in
  std::chrono::milliseconds patience{30000};  // and at most so long where it is at work
  std::chrono::milliseconds tell{2000};       // to say what it has of a session
  std::function<bool()> at_work;              // whether the ring's engine is; null: never
  // The server stops: that shards go is no news.
  std::shared_ptr<const std::atomic<bool>> closing;
  // A shard is gone, or does not answer; by name.
  std::function<void(const std::string& name)> lost;
};

struct RegistryState {
  explicit RegistryState(RegistryActor::pointer self) : self(self), membership({}, 0) {}

  // -- members ----
  void join(const Join& m);
  void down(const caf::down_msg& m);
  void came();
  void part(MemberId id, const std::string& why);
  void list(const ListShards& m);
  void ask_held(AskHeld& m);
  void held(const Held& m);
  void answer_held(uint64_t question);

  // -- rings ----
  void form(FormRing& m);
  void linked(const Linked& m);
  void broken(const Broken& m);
  void late(const Late& m);
  void silent(const Silent& m);
  void settled(const Settled& m);
  void begin_ring();
  void follow();
  void answer(Ring ring);
  void set_watch(std::chrono::milliseconds time);
  template <class Message>
  void tell_shards(const Message& message);

  struct Contact {
    ShardActor shard;
    PeerActor mailbox;
  };

  RegistryActor::pointer self;
  static inline const char* name = "registry";
  RegistryParts parts;
  Membership membership;
  std::map<MemberId, Contact> contacts;
  // Who has what of a session: questions that wait for answers, by number.
  struct Question {
    AskHeld asked;
    std::map<MemberId, Holding> answers;
  };
  std::map<uint64_t, Question> questions;
  uint64_t last_question = 0;
  std::optional<FormRing> asked;            // and not answered
  uint64_t watch = 0;                       // the last one that was set
  bool forming = false;                     // it waits for links, no longer for members
  std::map<MemberId, uint64_t> unanswered;  // of those who were set aside, the ring
  caf::actor_clock::time_point began, stands_since;
  // From the beginning, until all had come whom the first ring was to wait for.
  std::optional<caf::actor_clock::duration_type> came_after;
  std::shared_ptr<RingEnd> end;  // of the ring that links or stands
};

RegistryActor::behavior_type registry(RegistryActor::stateful_pointer<RegistryState> self,
                                      RegistryParts parts);

}  // namespace ringtide::actors::cluster
