// The service's side of a client's calls, as messages: a hold on a session, and the Service itself.
#pragma once

#include <caf/actor_system.hpp>
#include <memory>
#include <vector>

#include "actors/facts.h"
#include "actors/messages.h"

namespace ringtide::actors {

// Clients may keep holds longer than the system lives, and a thread of a detached actor ends only with
// the last reference to it: a hold refers to none of those.
HandlePtr make_handle(SessionId id, SessionActor session, GatewayActor gateway);
std::unique_ptr<protocol::Service> make_service(caf::actor_system& system, FactsPtr facts,
                                                GatewayActor gateway);

// A running session's info, with what the store knows of it.
void ask_info(const SessionActor& session, const ArchiveActor& archive,
              const Answer<protocol::SessionInfo>& reply);
// The one of a list.
Answer<std::vector<protocol::SessionInfo>> single(const Answer<protocol::SessionInfo>& reply);

}  // namespace ringtide::actors
