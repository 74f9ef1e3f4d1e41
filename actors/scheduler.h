// The actor around batching.h: keeps what plans need (blocks, places, rows) and who waits for what.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "actors/batching.h"
#include "actors/messages.h"

namespace ringtide::actors {

struct SchedulerState {
  explicit SchedulerState(SchedulerActor::pointer self) : self(self) {}

  void enter(Enter& m);
  void hand_block(HandBlock& m);
  void start_row(StartRow& m);
  void pause_row(const PauseRow& m);
  void stop_row(const StopRow& m);
  void leave(const Leave& m);
  void done(PlanDone& m);
  void use(const UseWorker& m);
  void report(ServerCall& m);
  void session_down(const caf::actor_addr& session);

  // A session that wants or has a place.
  struct Client {
    Enter request;
    std::deque<std::vector<model::TokenId>> blocks;
    std::optional<StartRow> row;  // not told to the worker yet
  };
  // A place that was asked for.
  struct Asked {
    SessionId id;
    uint64_t epoch;
  };
  Client* find(SessionId id, uint64_t epoch);
  Client* find_present(SessionId id, uint64_t epoch);
  void drop(SessionId id);
  void pump();
  void order(const Plan& plan);
  void tell(const Batching::Event& event);

  SchedulerActor::pointer self;
  static inline const char* name = "scheduler";
  Batching batching;
  std::map<SessionId, Client> clients;
  std::map<caf::actor_addr, SessionId> sessions;  // that ever asked, while they live
  std::map<uint64_t, Asked> entering;             // by Enter plans given
  WorkerActor worker;                             // null: none now
  model::EngineStats stats;
};

SchedulerActor::behavior_type scheduler(SchedulerActor::stateful_pointer<SchedulerState> self,
                                        Batching::Limits limits);

}  // namespace ringtide::actors
