// A session: one conversation, its log, its answer under way, its place in the engine.
//
// Records are composed ahead of the disk (`ahead`), and take effect when they are durable (`log`):
// text is acknowledged, tokens run, a generated token is shown only then. When a write fails, all
// that was ahead is forgotten and the log is loaded again, so memory never holds what the disk does
// not.
//
// The place in the engine is a cache of the log. It may go at any moment (another session needs the
// room, the worker died); pump() asks for it again when there is something to run.
#pragma once

#include <caf/response_promise.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/answer_text.h"
#include "actors/backlog.h"
#include "actors/compose.h"
#include "actors/facts.h"
#include "actors/messages.h"

namespace ringtide::actors {

struct SessionState {
  explicit SessionState(SessionActor::pointer self) : self(self) {}

  // -- calls: session.cc ----
  void append(AppendCall& m);
  void generate(GenerateCall& m);
  void cancel(const CancelCall& m);
  void state(const StateCall& m);
  void detached();
  caf::result<Retired> retire(const Retire& m);
  void settle_retirement();

  // -- log: session_disk.cc ----
  void load();
  void loaded(Loaded& m);
  void write(storage::LogRecord record, Answer<uint64_t> durable = {});
  void written(Written& m);
  void write_failed(const storage::Status& status);
  void end_orphan();
  void quit(const protocol::Outcome& why);
  Writing writing() const;
  void release_accepted();

  // -- answer: session_answer.cc ----
  void began();
  void stepped(const Stepped& m);
  void row_stopped(const RowStopped& m);
  void taken(const Taken& m);
  void stop_answer();
  void end_answer(protocol::FinishReason reason);
  void write_generated();
  void show(const std::vector<int32_t>& tokens);
  // To the client, with the tokens it is made of. `last`: tokens that made no text, too.
  void push(std::string text, bool last = false);
  void balance();
  void finish_answer();
  void fail_answer(const protocol::Outcome& why);
  model::TextAt answer_at() const;
  bool wants_row() const;
  void start_row();

  // -- place in the engine: session_place.cc ----
  void pump();
  void enter();
  void entered(const Entered& m);
  void refused(const Refused& m);
  void progress(const EnterProgress& m);
  void ran(const Ran& m);
  void left(const Left& m);
  void refuse_answer();
  void leave();
  void forget_place();
  void halt(const protocol::Outcome& why);
  bool wants_blocks() const;
  void hand_blocks();

  // A generation, from the call to its result.
  struct Generation {
    GenerateCall call;
    uint64_t row = 0;
    bool began_sent = false, began = false;  // the record of its beginning: sent, durable
    bool row_runs = false;                   // the scheduler has it
    bool stopping = false;                   // asked the scheduler to stop it
    bool writing = false;                    // a Generated record is under way
    bool end_sent = false;
    Batching::Pause pause = Batching::Pause::No;
    std::optional<protocol::FinishReason> finish;
    protocol::Outcome failure;   // not ok: what the call is answered when it has ended
    std::vector<int32_t> fresh;  // generated, not written yet
    std::optional<AnswerText> text;
    std::vector<int32_t> unshown;  // shown with the next text
    int64_t undurable = 0;         // tokens generated and not in the log
    int64_t outstanding = 0;       // tokens pushed and not taken
    protocol::GenerateResult result;
    std::chrono::steady_clock::time_point first, last;
    model::ContextStats before;
  };
  enum class PlaceState : uint8_t { None, Asked, Present };
  using Queued = std::variant<AppendCall, GenerateCall, StateCall>;

  SessionActor::pointer self;
  static inline const char* name = "session";

  // Constant after construction.
  FactsPtr facts;
  storage::SessionEntry entry;
  ArchiveActor archive;
  SchedulerActor scheduler;

  // The log.
  bool loading = true;
  uint64_t incarnation = 0;
  std::vector<Queued> queued;           // calls that came while loading
  SessionLog log;                       // durable
  TurnState ahead;                      // with what is under way
  std::deque<Answer<uint64_t>> writes;  // under way, oldest first
  std::shared_ptr<const model::ChatTemplate> chat;
  Backlog backlog;
  std::deque<Answer<>> waiting;  // appends not accepted yet

  // The answer under way.
  std::optional<Generation> answer;
  uint64_t rows = 0;

  // The place in the engine.
  PlaceState place = PlaceState::None;
  uint64_t epoch = 0;
  size_t ran_blocks = 0;  // that the place has, or would be given on entering
  int64_t ran_tokens = 0;
  size_t handed = 0;     // blocks the scheduler has
  bool worked = false;   // something has run in this place
  bool no_room = false;  // asked, and waits for somebody to leave
  bool halted = false;   // the engine failed on it: only a new call tries again
  EnterProgress restoring;
  model::ContextStats stats;

  std::optional<caf::typed_response_promise<Retired>> retiring;  // shutting down
};

SessionActor::behavior_type session(SessionActor::stateful_pointer<SessionState> self,
                                    FactsPtr facts, storage::SessionEntry entry,
                                    ArchiveActor archive, SchedulerActor scheduler);

}  // namespace ringtide::actors
