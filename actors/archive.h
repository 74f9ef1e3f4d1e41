// The archive: the sessions' logs. What else goes to the store it passes on to actors beside it,
// which it starts and whose failure is its own, so that no acknowledgement waits for them.
//
// Group commit: log writes gather in the mailbox while one append is under way, the next append
// takes all of them with one sync, then each is answered. A failed write refuses what its session
// still has in flight: a log never has a hole.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "actors/keeper.h"
#include "actors/messages.h"
#include "actors/unit_shelf.h"

namespace ringtide::actors {

using SummariserActor = caf::typed_actor<caf::reacts_to<Summarise>>;

struct ArchiveState {
  explicit ArchiveState(ArchiveActor::pointer self) : self(self) {}

  void write(Write& m);
  void commit();
  void load(const Load& m);
  void find(Find& m);
  void create(Create& m);
  void remove(const Remove& m);
  void report(ServerCall& m);
  void flush(const Flush& m);

  struct Failure {
    uint64_t incarnation;
    storage::Status status;
  };
  void answer(const Write& m, const storage::Status& status);
  template <class... Args>
  auto spawn_beside(Args&&... args);

  ArchiveActor::pointer self;
  static inline const char* name = "archive";
  storage::Store* store = nullptr;
  KeeperActor keeper;
  SummariserActor summariser;
  bool detached = true;
  std::vector<Write> waiting;
  std::map<SessionId, Failure> failed;  // until the session has loaded its log again
};

// `store` and `shelf` outlive the actor system. `detached`: what takes long has threads of
// its own.
ArchiveActor::behavior_type archive(ArchiveActor::stateful_pointer<ArchiveState> self,
                                    storage::Store* store, UnitShelf* shelf, bool detached);

}  // namespace ringtide::actors
