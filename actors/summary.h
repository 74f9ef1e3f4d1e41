// Reading sessions from the store: whole logs for those that open, summaries for those that do not.
//
// Plain functions, any thread. read_log() takes as long as the log is.
#pragma once

#include <string>
#include <vector>

#include "actors/session_log.h"
#include "protocol/service.h"
#include "storage/store.h"

namespace ringtide::actors {

// What storage says, as the service says it. A session's absence is NotFound.
protocol::Outcome to_outcome(const storage::Status& status);

// Feeds a stored log to an empty one. Corrupt: a record that is broken, or that cannot follow those
// before; nothing is changed in the store.
storage::Status read_log(storage::Store& store, storage::SessionId id, SessionLog& log);

// Sessions by id if not 0, else by name, else all. Those in `live` are taken from there, the others
// from the ends of their logs (state "stored", or "corrupt": damage between is found when the
// session opens); what the store alone knows is filled in.
storage::Result<std::vector<protocol::SessionInfo>> summarise(
    storage::Store& store, const std::string& name, storage::SessionId id,
    const std::vector<protocol::SessionInfo>& live);

}  // namespace ringtide::actors
