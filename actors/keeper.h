// The keeper: what is slow in the store and nobody's acknowledgement waits for. It writes the units
// on the shelf, removes sessions, flushes; one after another, on its own thread, beside the archive
// that it belongs to.
#pragma once

#include "actors/messages.h"
#include "actors/unit_shelf.h"

namespace ringtide::actors {

using KeeperActor = caf::typed_actor<caf::reacts_to<UnitsWait>,  // the shelf holds units to write
                                     caf::reacts_to<Remove>,     // a session that does not run
                                     caf::reacts_to<Flush>>;     // units on the shelf, and before

// `store` and `shelf` outlive the actor system.
KeeperActor::behavior_type keeper(KeeperActor::pointer self, storage::Store* store,
                                  UnitShelf* shelf);

}  // namespace ringtide::actors
