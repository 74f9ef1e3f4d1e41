// The shard worker: owns the engine and runs the scheduler's plans, one message a plan.
//
// The decode loop closes here. A sampled token goes straight to its session and, unless it ends the
// answer, is the next step's input: nobody is asked in between. An exception from the engine ends
// the worker; the supervisor starts another.
#pragma once

#include <caf/exit_reason.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "actors/answer_text.h"
#include "actors/facts.h"
#include "actors/messages.h"
#include "model/engine.h"

namespace ringtide::actors {

using MakeEngine = std::function<std::unique_ptr<model::Engine>()>;

struct WorkerState {
  explicit WorkerState(WorkerActor::pointer self) : self(self) {}

  void run(WorkOrder& order);
  void hand_over();

  // A session's place in the engine.
  struct Place {
    SessionActor session;
    uint64_t epoch;
  };
  // A generation under way.
  struct Row {
    StartRow start;
    model::SamplingParams params;
    AnswerText text;
    int64_t left;                           // tokens it may still generate
    std::optional<model::TokenId> pending;  // sampled, not run yet
  };

  void enter(const Enter& request, PlanDone& done);
  void blocks(SessionId id, const WorkOrder& order);
  // Work that finds no room for the contexts it extends costs them their places.
  void displace(const std::vector<SessionId>& sessions, const model::OutOfBudget& why,
                PlanDone& done);
  void leave(SessionId id);
  void start(StartRow& start);
  void burst(const Plan& plan, PlanDone& done);
  void step(std::vector<SessionId>& rows, PlanDone& done);
  std::optional<protocol::FinishReason> finish(Row& row, model::TokenId token);

  WorkerActor::pointer self;
  static inline const char* name = "worker";
  FactsPtr facts;
  SchedulerActor scheduler;
  std::unique_ptr<model::Engine> engine;
  std::map<SessionId, Place> places;
  std::map<SessionId, uint64_t> returning;  // sessions whose past is run again, and their epoch
  std::map<SessionId, Row> rows;
  bool looks_again = false;  // for what the engine has on its way to the store
};

// Why a worker ends whose engine's ring of shards is over.
constexpr caf::exit_reason kRingLost = caf::exit_reason::remote_link_unreachable;

// Says EngineReady to `supervisor` once `make` has returned.
WorkerActor::behavior_type worker(WorkerActor::stateful_pointer<WorkerState> self, FactsPtr facts,
                                  MakeEngine make, SchedulerActor scheduler,
                                  SupervisorActor supervisor);

}  // namespace ringtide::actors
