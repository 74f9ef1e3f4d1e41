// Every actor and what it may be told. The messages themselves: messages.h.
#pragma once

#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>

namespace ringtide::actors {

struct AppendCall;
struct CancelCall;
struct Commit;
struct Create;
struct Detach;
struct Detached;
struct EngineReady;
struct Enter;
struct EnterProgress;
struct Entered;
struct Find;
struct Flush;
struct Found;
struct GenerateCall;
struct HandBlock;
struct HandOver;
struct InfoCall;
struct Leave;
struct Left;
struct ListCall;
struct Load;
struct Loaded;
struct OpenCall;
struct PauseRow;
struct PlanDone;
struct Ran;
struct Refused;
struct Remove;
struct RemoveCall;
struct Retire;
struct Retired;
struct RowStopped;
struct ServerCall;
struct Shutdown;
struct StartRow;
struct StartWorker;
struct StateCall;
struct Stepped;
struct StopRow;
struct Summarise;
struct Taken;
struct UnitsWait;
struct UseRooms;
struct UseWorker;
struct WorkOrder;
struct Write;
struct Written;

// One session: its log, its turn, its place in the engine.
using SessionActor = caf::typed_actor<
    // -- from the client's handle ----
    caf::reacts_to<AppendCall>,    // text arrives
    caf::reacts_to<GenerateCall>,  // an answer is wanted
    caf::reacts_to<CancelCall>,    // not any more
    caf::reacts_to<Taken>,         // a chunk went to the client, or the client is gone
    caf::reacts_to<StateCall>,     // how it stands
    // -- from the gateway ----
    caf::reacts_to<Detached>,                // nobody holds it
    caf::replies_to<Retire>::with<Retired>,  // end, if you can
    // -- from the archive ----
    caf::reacts_to<Loaded>,   // the log as it is stored
    caf::reacts_to<Written>,  // a record is durable, or is not
    // -- from scheduler and worker ----
    caf::reacts_to<Entered>,        // it has a place in the engine, or cannot have one
    caf::reacts_to<Refused>,        // no room now
    caf::reacts_to<EnterProgress>,  // tokens run again so far
    caf::reacts_to<Ran>,            // a block has run
    caf::reacts_to<Stepped>,        // a token was generated
    caf::reacts_to<RowStopped>,     // no more will come
    caf::reacts_to<Left>>;          // its place is gone

// Orders the work of all sessions for the engine.
using SchedulerActor = caf::typed_actor<
    // -- from sessions ----
    caf::reacts_to<Enter>,      // a place in the engine, with what has run
    caf::reacts_to<HandBlock>,  // a block to run
    caf::reacts_to<StartRow>,   // generate from here on
    caf::reacts_to<PauseRow>,   // the reader is slow, or has caught up
    caf::reacts_to<StopRow>,    // cancel; answered by RowStopped
    caf::reacts_to<Leave>,      // gives its place up
    // -- from worker and supervisor ----
    caf::reacts_to<PlanDone>,   // room for another plan
    caf::reacts_to<UseWorker>,  // a new worker; what the old one held is lost
    // -- from the gateway ----
    caf::reacts_to<ServerCall>>;  // memory in use

// Owns the engine, on its own thread.
using WorkerActor = caf::typed_actor<caf::reacts_to<WorkOrder>,  // runs one plan
                                     caf::reacts_to<HandOver>>;  // to itself: look again

// Owns the logs, on its own thread, and those who do the rest of the store's work.
using ArchiveActor =
    caf::typed_actor<caf::reacts_to<Write>,       // a record to make durable; answered by Written
                     caf::reacts_to<Commit>,      // to itself: write what has gathered
                     caf::reacts_to<UnitsWait>,   // the shelf holds units to write
                     caf::reacts_to<Load>,        // read a log; answered by Loaded
                     caf::reacts_to<Find>,        // look a session up; answered by Found
                     caf::reacts_to<Create>,      // make a session; answered by Found
                     caf::reacts_to<Remove>,      // with all it stored
                     caf::reacts_to<Summarise>,   // sessions as the store knows them
                     caf::reacts_to<ServerCall>,  // what is stored
                     caf::reacts_to<Flush>>;      // everything taken so far reaches the disk

// The registry of sessions: where clients' calls enter.
using GatewayActor = caf::typed_actor<
    // -- from clients ----
    caf::reacts_to<OpenCall>,    // create or resume
    caf::reacts_to<ListCall>,    // all that is stored
    caf::reacts_to<InfoCall>,    // one of them
    caf::reacts_to<RemoveCall>,  // for good
    caf::reacts_to<ServerCall>,  // the server itself
    caf::reacts_to<Detach>,      // a handle was dropped
    // -- from the house ----
    caf::reacts_to<Found>,      // the archive's answer to Find and Create
    caf::reacts_to<UseRooms>,   // archive and scheduler for sessions from now on
    caf::reacts_to<Shutdown>>;  // end all sessions, then say so

// Starts the others in order, watches them, starts again what died.
using SupervisorActor = caf::typed_actor<caf::reacts_to<StartWorker>,  // to itself: try again
                                         caf::reacts_to<EngineReady>,  // the worker's engine stands
                                         caf::reacts_to<Shutdown>>;    // end everything, in order

}  // namespace ringtide::actors
