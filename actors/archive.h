// The archive: everything that writes to the store, and what is too slow to read in passing.
//
// Group commit: log writes gather in the mailbox while one append is under way, the next append
// takes all of them with one sync, then each is answered. A failed write refuses what its session
// still has in flight: a log never has a hole.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "actors/messages.h"
#include "actors/unit_shelf.h"

namespace ringtide::actors {

struct ArchiveState {
  explicit ArchiveState(ArchiveActor::pointer self) : self(self) {}

  void write(Write& m);
  void commit();
  void units_wait();
  void load(const Load& m);
  void find(Find& m);
  void create(Create& m);
  void remove(const Remove& m);
  void summarise(const Summarise& m);
  void report(ServerCall& m);
  void flush(const Flush& m);

  struct Failure {
    uint64_t incarnation;
    storage::Status status;
  };
  void answer(const Write& m, const storage::Status& status);
  // Runs `work`, which may take long, on a thread of its own.
  template <class F>
  void aside(F work);

  ArchiveActor::pointer self;
  static inline const char* name = "archive";
  storage::Store* store = nullptr;
  UnitShelf* shelf = nullptr;
  bool detached = true;
  std::vector<Write> waiting;
  std::map<SessionId, Failure> failed;  // until the session has loaded its log again
};

// `store` and `shelf` outlive the actor system. `detached`: long reads get threads of their own.
ArchiveActor::behavior_type archive(ArchiveActor::stateful_pointer<ArchiveState> self,
                                    storage::Store* store, UnitShelf* shelf, bool detached);

}  // namespace ringtide::actors
