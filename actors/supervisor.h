// Starts the actors in order, watches them, and starts again what died.
//
// A worker that died gets a successor with a new engine, and the scheduler tells the sessions,
// which enter again from their logs. An archive or scheduler that died (a defect: neither throws in
// its work) takes the sessions in memory along; they open again from the store.
#pragma once

#include <chrono>
#include <functional>

#include "actors/batching.h"
#include "actors/facts.h"
#include "actors/messages.h"
#include "actors/unit_shelf.h"
#include "actors/worker.h"

namespace ringtide::actors {

// What the actors are made of. `store` and `shelf` outlive the actor system.
struct Parts {
  FactsPtr facts;
  storage::Store* store = nullptr;
  UnitShelf* shelf = nullptr;
  MakeEngine make_engine;
  Batching::Limits limits;
  bool detached = true;  // worker and archive on threads of their own; tests say no
  // Called once: with the gateway when the first engine stands, with null if it could not be made.
  std::function<void(GatewayActor)> started;
};

struct SupervisorState {
  explicit SupervisorState(SupervisorActor::pointer self) : self(self) {}

  void start();
  void start_archive();
  void start_scheduler();
  void start_worker();
  void engine_ready(const EngineReady& m);
  void down(const caf::down_msg& m);
  void shutdown(const Shutdown& m);
  void end();

  SupervisorActor::pointer self;
  static inline const char* name = "supervisor";
  Parts parts;
  bool closing = false;
  ArchiveActor archive;
  SchedulerActor scheduler;
  WorkerActor worker;
  GatewayActor gateway;
  bool started = false;                // an engine stood once
  bool ready = false;                  // the present one stands
  std::chrono::milliseconds delay{0};  // before the next try
};

SupervisorActor::behavior_type supervisor(SupervisorActor::stateful_pointer<SupervisorState> self,
                                          Parts parts);

}  // namespace ringtide::actors
