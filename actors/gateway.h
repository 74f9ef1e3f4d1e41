// Where clients' calls enter: the registry of sessions in memory, and the Service in front of it.
//
// Each session that is open is one actor; the gateway finds or starts it and hands out holds on it.
// A session nobody holds stays until the room is needed, the longest unheld first. One that fails
// is taken out of the registry and can be opened again from its log.
#pragma once

#include <caf/actor_system.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/facts.h"
#include "actors/messages.h"

namespace ringtide::actors {

struct GatewayState {
  explicit GatewayState(GatewayActor::pointer self) : self(self) {}

  void open(OpenCall& m);
  void found(Found& m);
  void list(const ListCall& m);
  void info(const InfoCall& m);
  void remove(const RemoveCall& m);
  void report(ServerCall& m);
  void detach(const Detach& m);
  void use(const UseRooms& m);
  void shutdown(const Shutdown& m);
  void session_down(const caf::down_msg& m);

  struct Entry {
    SessionActor session;
    std::string name;
    int64_t holds = 0;
    uint64_t unheld_since = 0;  // a count of calls, not a time
    bool retiring = false;
    std::vector<std::function<void()>> deferred;  // calls to make again when it is gone, or stays
  };
  std::map<SessionId, Entry>::iterator lookup(const std::string& name, SessionId id);
  void attach(SessionId id, Entry& entry, const OpenCall& call, bool created);
  bool has_room(const OpenCall& call, std::function<void()> again);
  void retire(SessionId id, Retire::Why why, std::function<void()> again,
              std::function<void()> refused);
  void create(Found& m);
  template <class Call>
  std::function<void()> again(const Call& call);

  GatewayActor::pointer self;
  static inline const char* name = "gateway";
  FactsPtr facts;
  ArchiveActor archive;
  SchedulerActor scheduler;
  std::map<SessionId, Entry> sessions;
  uint64_t calls = 0;
  std::function<void()> when_empty;  // shutting down
};

GatewayActor::behavior_type gateway(GatewayActor::stateful_pointer<GatewayState> self,
                                    FactsPtr facts, ArchiveActor archive, SchedulerActor scheduler);

}  // namespace ringtide::actors
