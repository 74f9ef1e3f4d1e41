// The leader's registry: lets shards in, notices when they go, forms rings of them.
#pragma once

#include <atomic>
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
  void part(MemberId id, const std::string& why);
  void list(const ListShards& m);

  // -- rings ----
  void form(FormRing& m);
  void linked(const Linked& m);
  void broken(const Broken& m);
  void late(const Late& m);
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
  std::optional<FormRing> asked;  // and not answered
  uint64_t watch = 0;             // the last one that was set
  bool forming = false;           // it waits for links, no longer for members
  std::shared_ptr<RingEnd> end;   // of the ring that links or stands
};

RegistryActor::behavior_type registry(RegistryActor::stateful_pointer<RegistryState> self,
                                      RegistryParts parts);

}  // namespace ringtide::actors::cluster
