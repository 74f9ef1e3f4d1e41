// What the worker does next: the scheduler's decisions, without actors.
//
// Sessions ask for a place in the engine, hand in blocks to run, and rows to decode; the worker
// asks for plans. Heavy work (entering, a block) and decode bursts take turns, each round-robin
// over the sessions, so that neither a long ingest nor many answers starve anyone. When the engine
// has no room, the place that was used least recently and is idle is given up; then one whose
// reader is slow.
//
// Implements no synchronization and knows no clock: "recently" counts plans.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ringtide::actors {

struct Plan {
  enum class Kind : uint8_t { Enter, Block, Decode, Leave };
  uint64_t number = 0;
  Kind kind = Kind::Block;
  std::vector<uint64_t> sessions;  // one; of Decode one or more
  int32_t steps = 0;               // of Decode: at most so many tokens a row
  int32_t blocks = 0;              // of Block: so many of those that wait
};

class Batching {
 public:
  struct Limits {
    int32_t rows = 16;        // decoded together
    int32_t steps = 8;        // of a burst
    int32_t blocks = 1;       // run in one plan
    int32_t ahead = 2;        // plans given and not done: one runs, one waits
    int32_t strikes = 3;      // times the engine may die of a session's work before it is given up
    int32_t ring_losses = 4;  // of a ring of shards in a session's work, that make a strike
  };
  // What a session must be told.
  struct Event {
    enum class Kind : uint8_t {
      Refused,     // no room, and nobody who could leave: asked again when there is
      Evicted,     // its place went to another
      EngineLost,  // the worker died: everything in the engine is gone
      GivenUp,     // and it died of this session's work, repeatedly
      TooLarge,    // no room, and nobody else was there: it is not asked again
      RowStopped,  // stop_row() holds: no plan still runs the row
    };
    Kind kind;
    uint64_t session;
    uint64_t row = 0;  // of RowStopped
  };

  Batching() : Batching(Limits{}) {}
  explicit Batching(Limits limits) : limits_(limits) {}

  // -- sessions ----
  void enter(uint64_t session);
  void block(uint64_t session);                    // one more block waits. REQUIRES: present()
  void start_row(uint64_t session, uint64_t row);  // REQUIRES: present()
  enum class Pause : uint8_t { No, Brief, Long };  // a row that pauses long may lose its place
  void pause_row(uint64_t session, Pause pause);
  void stop_row(uint64_t session, uint64_t row);  // answered by RowStopped, perhaps at once
  void leave(uint64_t session);                   // for good; pending work is dropped
  bool present(uint64_t session) const;

  // -- worker ----
  std::optional<Plan> next();
  // Of Enter; every other plan is Ok. More: the session is not there yet, and enters on at its
  // turn.
  enum class Outcome : uint8_t { Ok, More, NoRoom, Failed };
  struct EndedRow {
    uint64_t session, row;
  };
  // `displaced`: sessions whose place the plan's work has cost, for want of room.
  void done(uint64_t plan, Outcome outcome, const std::vector<EndedRow>& ended,
            const std::vector<uint64_t>& displaced = {});
  // The worker died: of its work, or of its ring of shards, which fails for other reasons too.
  enum class Cause : uint8_t { Work, Ring };
  void lost(Cause cause = Cause::Work);

  std::vector<Event> take_events();

 private:
  enum class Place : uint8_t { None, Asking, Entering, Present };
  struct Seat {
    Place place = Place::None;
    int32_t blocks = 0;   // waiting to be planned
    int32_t planned = 0;  // plans given and not done
    int32_t strikes = 0;  // in losses of a ring
    uint64_t row = 0;     // 0: none
    Pause pause = Pause::No;
    uint64_t stopping = 0;  // a row that is being stopped; 0: none
    uint64_t used = 0;      // number of the plan that used it last
    bool worked = false;    // a plan has used its place: until then it did not enter in vain
    bool idle() const { return place == Place::Present && worked && !blocks && !planned && !row; }
  };

  std::optional<Plan> next_heavy();
  std::optional<Plan> next_burst();
  Plan give(Plan::Kind kind, std::vector<uint64_t> sessions, int32_t steps = 0, int32_t blocks = 0);
  void displace(uint64_t session);
  void make_room(uint64_t session);
  void ask_again();
  void settle_stop(uint64_t session, Seat& seat);
  void forget_work(uint64_t session);
  std::optional<uint64_t> victim() const;
  bool alone(uint64_t session) const;
  void tell(Event::Kind kind, uint64_t session, uint64_t row = 0) {
    events_.push_back({kind, session, row});
  }

  Limits limits_;
  std::map<uint64_t, Seat> seats_;
  std::deque<uint64_t> leaving_;   // Leave plans to give, before anything else
  std::deque<uint64_t> heavy_;     // sessions with heavy work, each once, next first
  std::deque<uint64_t> rows_;      // sessions with a row, each once, next first
  std::vector<uint64_t> refused_;  // sessions without room
  std::deque<Plan> given_;         // not done, oldest first
  std::vector<Event> events_;
  uint64_t next_number_ = 1;
  bool burst_next_ = false;  // whose turn it is
};

}  // namespace ringtide::actors
