// Every type that crosses actors. All are local to the process.
//
// `epoch` numbers a session's places in the engine: each time it asks for one it counts on, and
// what speaks of an earlier place is ignored. `incarnation` does the same for a session and its
// log: it counts on when the log is loaded again. `row` numbers generations of a session.
#pragma once

#include <atomic>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/type_id.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/answer.h"
#include "actors/batching.h"
#include "actors/interfaces.h"
#include "actors/session_log.h"
#include "model/engine.h"
#include "model/tokenizer.h"
#include "protocol/service.h"
#include "storage/store.h"

namespace ringtide::actors {

using storage::SessionId;
using StopFlag = std::shared_ptr<std::atomic<bool>>;  // set: stop before the next token
using HandlePtr = std::shared_ptr<protocol::SessionHandle>;

// -- clients to gateway ----

struct OpenCall {
  protocol::OpenRequest request;
  Answer<HandlePtr, protocol::SessionInfo, bool> reply;
};
struct ListCall {
  Answer<std::vector<protocol::SessionInfo>> reply;
};
struct InfoCall {
  std::string name;
  SessionId id = 0;  // 0: by name
  Answer<protocol::SessionInfo> reply;
};
struct RemoveCall {
  std::string name;
  SessionId id = 0;
  Answer<> reply;
};
struct ServerCall {  // each actor on its way fills in what it knows; the last one answers
  protocol::ServerInfo info;
  Answer<protocol::ServerInfo> reply;
  ArchiveActor then;
};
struct Detach {
  SessionId id = 0;
  SessionActor session;  // that was held
};

// -- clients to session ----

struct AppendCall {
  std::string text;
  std::optional<uint64_t> offset;
  Answer<> accepted;
  Answer<uint64_t> durable;
};
struct GenerateCall {
  protocol::GenerateParams params;
  std::shared_ptr<protocol::TextSink> sink;
  Answer<protocol::GenerateResult> done;
  StopFlag stop;
  std::chrono::steady_clock::time_point called;
};
struct CancelCall {
  StopFlag stop;  // which call
};
struct Taken {
  uint64_t row = 0;
  int64_t tokens = 0;
  bool alive = true;  // false: the client is gone
};
struct StateCall {
  Answer<protocol::SessionInfo> reply;
};

// -- gateway and session ----

struct Detached {};
struct Retire {
  enum class Why : uint8_t { Room, Removal, Shutdown };
  Why why = Why::Room;
};
struct Retired {
  bool ended = false;  // false: it is at work and stays
};

// -- archive ----

struct Write {
  SessionActor from;
  uint64_t incarnation = 0;
  storage::LogWrite write;
};
struct Written {
  uint64_t incarnation = 0;
  storage::Status status;
  storage::LogRecord record;
};
struct Commit {};
struct UnitsWait {};
struct Load {
  SessionActor to;
  uint64_t incarnation = 0;
  SessionId id = 0;
};
struct Loaded {
  uint64_t incarnation = 0;
  storage::Status status;
  std::shared_ptr<SessionLog> log;
};
struct Find {
  GatewayActor to;
  OpenCall call;
};
struct Create {
  GatewayActor to;
  OpenCall call;
  storage::Opened opened;
};
struct Found {
  OpenCall call;
  storage::Status status;
  storage::SessionEntry entry;
  bool created = false;  // answers Create
};
struct Remove {
  RemoveCall call;
};
struct Summarise {
  std::string name;  // of one session; empty, with id 0: all
  SessionId id = 0;
  std::vector<protocol::SessionInfo> live;  // of sessions that run, less what only the store knows
  Answer<std::vector<protocol::SessionInfo>> reply;
};
struct Flush {
  std::function<void()> done;
};

// -- sessions to scheduler ----

struct Enter {
  SessionActor from;
  SessionId id = 0;
  uint64_t epoch = 0;
  model::PolicyConfig policy;
  std::shared_ptr<const std::vector<model::TokenId>> tokens;  // that have run
  std::shared_ptr<const std::vector<int32_t>> lengths;        // of their blocks
};
struct HandBlock {
  SessionId id = 0;
  uint64_t epoch = 0;
  std::vector<model::TokenId> tokens;
};
struct StartRow {
  SessionId id = 0;
  uint64_t epoch = 0, row = 0;
  std::optional<model::TokenId> pending;  // generated, not run yet
  std::vector<model::TokenId> answered;   // generated so far, with it
  std::shared_ptr<const storage::Began> began;
  model::TextAt text = model::TextAt::Inside;  // where the answer stands
  StopFlag stop;
};
struct PauseRow {
  SessionId id = 0;
  uint64_t epoch = 0;
  Batching::Pause pause = Batching::Pause::No;
};
struct StopRow {
  SessionId id = 0;
  uint64_t epoch = 0, row = 0;
};
struct Leave {
  SessionId id = 0;
  uint64_t epoch = 0;
};

// -- scheduler and worker to sessions ----

struct Entered {
  uint64_t epoch = 0;
  protocol::Outcome outcome;
  model::ContextStats stats;
};
struct Refused {
  uint64_t epoch = 0;
};
struct EnterProgress {
  uint64_t epoch = 0;
  int64_t done = 0, total = 0;  // tokens
};
struct Ran {
  uint64_t epoch = 0;
  size_t blocks = 1;
  model::ContextStats stats;
};
struct Stepped {
  uint64_t epoch = 0, row = 0;
  model::TokenId token = 0;
  bool ran = false;  // the token before it was run for it
  std::optional<protocol::FinishReason> finish;
  model::ContextStats stats;
};
struct RowStopped {
  uint64_t epoch = 0, row = 0;
};
struct Left {
  enum class Why : uint8_t { Evicted, EngineLost, GivenUp };
  uint64_t epoch = 0;
  Why why = Why::Evicted;
};

// -- scheduler, worker, supervisor ----

struct WorkOrder {
  Plan plan;
  std::optional<Enter> enter;          // of an Enter plan
  std::vector<model::TokenId> tokens;  // of a Block plan
  std::vector<int32_t> lengths;        // of its blocks
  std::vector<StartRow> rows;          // of a Decode plan: rows it meets for the first time
};
struct HandOver {};
struct PlanDone {
  uint64_t plan = 0;
  Batching::Outcome result = Batching::Outcome::Ok;
  protocol::Outcome outcome;    // of an Enter that failed
  model::ContextStats entered;  // of an Enter that did not
  std::vector<Batching::EndedRow> ended;
  std::vector<SessionId> displaced;  // those that there was no room for any more
  model::EngineStats stats;
};
struct UseWorker {
  WorkerActor worker;
  Batching::Cause cause = Batching::Cause::Work;  // of the end of the one before
  model::EngineStats stats;                       // of its engine; nothing: no worker
};
struct UseRooms {
  ArchiveActor archive;
  SchedulerActor scheduler;
};
struct StartWorker {};
struct EngineReady {
  model::EngineStats stats;
};
struct Shutdown {
  std::function<void()> done;
};

}  // namespace ringtide::actors

CAF_BEGIN_TYPE_ID_BLOCK(ringtide, caf::first_custom_type_id)
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::AppendCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::CancelCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Commit))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Create))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Detach))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Detached))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::EngineReady))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Enter))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::EnterProgress))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Entered))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Find))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Flush))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Found))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::GenerateCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::HandBlock))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::HandOver))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::InfoCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Leave))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Left))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::ListCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Load))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Loaded))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::OpenCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::PauseRow))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::PlanDone))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Ran))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Refused))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Remove))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::RemoveCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Retire))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Retired))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::RowStopped))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::ServerCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Shutdown))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::StartRow))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::StartWorker))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::StateCall))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Stepped))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::StopRow))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Summarise))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Taken))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::UnitsWait))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::UseRooms))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::UseWorker))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::WorkOrder))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Write))
CAF_ADD_TYPE_ID(ringtide, (ringtide::actors::Written))
CAF_END_TYPE_ID_BLOCK(ringtide)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::AppendCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::CancelCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Commit)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Create)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Detach)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Detached)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::EngineReady)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Enter)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::EnterProgress)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Entered)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Find)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Flush)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Found)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::GenerateCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::HandBlock)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::HandOver)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::InfoCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Leave)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Left)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::ListCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Load)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Loaded)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::OpenCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::PauseRow)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::PlanDone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Ran)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Refused)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Remove)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::RemoveCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Retire)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Retired)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::RowStopped)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::ServerCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Shutdown)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::StartRow)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::StartWorker)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::StateCall)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Stepped)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::StopRow)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Summarise)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Taken)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::UnitsWait)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::UseRooms)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::UseWorker)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::WorkOrder)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Write)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(ringtide::actors::Written)
