#include "actors/cluster/member.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "actors/cluster/mailbox.h"

namespace ringtide::actors::cluster {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnecting{3000};  // at most, to the leader or another shard
constexpr milliseconds kAnswer{10000};     // until the leader has let us in
constexpr milliseconds kAgain{500};        // between tries
// Before one that was told to go comes again: longer each time, since others may not reach it, and
// each of its comings ends a ring. Until a ring with it stands.
constexpr milliseconds kExpelled{2000}, kExpelledOften{60000};

}  // namespace

// -- membership ----

void MemberState::join(const RejoinNow& m) {
  if (m.attempt != attempt || id != 0) return;
  try {
    leader = parts.net->connect<LeaderActor>(parts.leader, kConnecting);
  } catch (const NetError& error) {
    spdlog::debug("{}", error.what());
    return rejoin(kAgain);
  }
  self->monitor(leader);
  self->send(leader, Join{parts.terms, parts.who, self, parts.mailbox});
  rejoin(kAnswer);
}

void MemberState::joined(const Joined& m) {
  id = m.id;
  spdlog::info("joined the cluster at {}", to_string(parts.leader));
}

void MemberState::refused(const RefusedJoin& m) {
  ++attempt;
  parts.refused(m.why);
}

void MemberState::expelled(const Expelled& m) {
  spdlog::warn("told to leave the cluster: {}", m.why);
  drop();
  id = 0;
  stays_away = std::clamp(stays_away * 2, kExpelled, kExpelledOften);
  rejoin(stays_away);
}

void MemberState::down(const caf::down_msg& m) {
  if (!leader || m.source != leader.address()) return;
  if (id != 0) spdlog::warn("lost the leader at {}", to_string(parts.leader));
  drop();
  leader = nullptr;
  id = 0;
  rejoin(kAgain);
}

// The last try that was asked for is the one that counts.
void MemberState::rejoin(milliseconds after) {
  self->delayed_send(self, after, RejoinNow{++attempt});
}

// -- the ring ----

void MemberState::form(const Form& m) {
  if (m.generation <= generation) return;
  drop();
  generation = m.generation;
  if (leader) self->send(leader, Linked{generation, id, false});
  std::vector<PeerActor> known(m.shards.size() + 1);
  known[0] = m.leader;
  end = open_ring(parts.mailbox, generation, m.shard, known, milliseconds(m.deadline_ms),
                  [me = MemberActor(self), generation = generation] {
                    caf::anon_send(me, RingLinked{generation});
                  });
  // Of two shards, the first connects to the other, and tells it where to answer.
  for (size_t i = m.shard; i < m.shards.size(); ++i) {
    const Member& other = m.shards[i];
    try {
      const auto peer = parts.net->connect<PeerActor>({other.host, other.port}, kConnecting);
      self->send(parts.mailbox, Reached{generation, static_cast<int32_t>(i + 1), peer});
    } catch (const NetError& error) {
      return broken(error.what(), other.id);
    }
  }
}

void MemberState::linked(const RingLinked& m) {
  if (m.generation == generation && end && leader) self->send(leader, Linked{generation, id, true});
}

void MemberState::begin(const Begin& m) {
  if (m.generation != generation || !end) return;
  try {
    stays_away = milliseconds(0);
    parts.units->keep_only(m.sessions);
    ledger = {};
    engine = parts.make_engine(*parts.units, *end);
  } catch (const std::exception& error) {
    broken(error.what());
  }
}

void MemberState::call(const MakeCall& m) {
  if (m.generation != generation || !engine) return;
  try {
    static const std::vector<char> none;
    const Call call = decode(m.call.bytes ? *m.call.bytes : none);
    ledger.check(call, *engine);
    ledger.run(call, *engine);
  } catch (const model::OutOfBudget&) {  // the leader has seen the same
  } catch (const model::ModelError&) {
  } catch (const std::exception& error) {
    broken(error.what());
  }
}

void MemberState::disband(const Disband& m) {
  if (m.generation == generation) drop();
}

void MemberState::tell(const TellHeld& m) {
  if (!leader) return;
  const storage::SessionSize size = parts.units->size(m.session);
  Holding holding{size.units, size.unit_bytes, 0};
  if (engine && ledger.stands(m.session, *engine)) {
    const model::ContextStats stats = engine->stats(m.session);
    holding.ram_bytes = stats.window_bytes + stats.index_bytes + stats.host_bytes;
  }
  self->send(leader, Held{m.question, id, holding});
}

void MemberState::broken(const std::string& why, MemberId unreachable) {
  if (end) end->abort(why);
  spdlog::warn("the ring is over: {}", why);
  if (leader) self->send(leader, Broken{generation, id, why, unreachable});
  drop();
}

void MemberState::drop() {
  if (end) end->abort("it has left the ring");
  engine.reset();
  end.reset();
}

MemberActor::behavior_type member(MemberActor::stateful_pointer<MemberState> self,
                                  MemberParts parts) {
  MemberState* state = &self->state;
  state->parts = std::move(parts);
  self->set_down_handler([state](const caf::down_msg& m) { state->down(m); });
  self->send(self, RejoinNow{});
  return {
      [state](const Joined& m) { state->joined(m); },
      [state](const RefusedJoin& m) { state->refused(m); },
      [state](const Form& m) { state->form(m); },
      [state](const Begin& m) { state->begin(m); },
      [state](const MakeCall& m) { state->call(m); },
      [state](const Disband& m) { state->disband(m); },
      [state](const TellHeld& m) { state->tell(m); },
      [state](const Expelled& m) { state->expelled(m); },
      [state](const RejoinNow& m) { state->join(m); },
      [state](const RingLinked& m) { state->linked(m); },
  };
}

}  // namespace ringtide::actors::cluster
