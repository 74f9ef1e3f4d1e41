#include "actors/cluster/registry.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <utility>

namespace ringtide::actors::cluster {

using Stage = Membership::Stage;

namespace {

constexpr std::chrono::milliseconds kLookAgain{100};  // whether the engine is still at work
// At the beginning shards start all at once: about so many times as long as one that starts again.
constexpr int kAllAtOnce = 2;

Ring no_ring(const std::string& why) {
  Ring ring;
  ring.why = why;
  return ring;
}

}  // namespace

// -- members ----

void RegistryState::join(const Join& m) {
  if (!m.shard || !m.mailbox) return;
  const auto admission = membership.join(m.terms, m.who);
  if (admission.id == 0) {
    spdlog::warn("refused {}: {}", m.who.name, admission.refusal);
    return self->send(m.shard, RefusedJoin{admission.refusal});
  }
  // One that joins again, before it was missed.
  for (const auto& [id, contact] : contacts) {
    if (contact.shard != m.shard) continue;
    membership.leave(id, "it joins anew");
    contacts.erase(id);
    follow();
    break;
  }
  spdlog::info("{} joined, at {}:{}", m.who.name, m.who.host, m.who.port);
  contacts[admission.id] = {m.shard, m.mailbox};
  self->monitor(m.shard);
  self->send(m.shard, Joined{admission.id});
  came();
}

// Somebody is present who was not.
void RegistryState::came() {
  if (asked && !forming) {
    if (membership.present() >= asked->members) begin_ring();
  } else {
    self->delayed_send(self, parts.settle, Settled{membership.generation()});
  }
}

void RegistryState::down(const caf::down_msg& m) {
  for (const auto& [id, contact] : contacts) {
    if (contact.shard.address() == m.source) return part(id, "its process is gone or unreachable");
  }
}

void RegistryState::part(MemberId id, const std::string& why) {
  const auto contact = contacts.find(id);
  if (contact == contacts.end()) return;
  std::string who;
  for (const Member& member : membership.members()) {
    if (member.id == id) who = member.name;
  }
  spdlog::log(*parts.closing ? spdlog::level::debug : spdlog::level::warn, "{} is lost: {}", who,
              why);
  self->demonitor(contact->second.shard.address());
  self->send(contact->second.shard, Expelled{why});
  contacts.erase(contact);
  unanswered.erase(id);
  membership.leave(id, why);
  if (parts.lost) parts.lost(who);
  follow();
}

void RegistryState::list(const ListShards& m) { m.done(membership.members()); }

void RegistryState::ask_held(AskHeld& m) {
  const uint64_t question = ++last_question;
  const uint64_t session = m.session;
  questions[question].asked = std::move(m);
  for (const auto& [id, contact] : contacts) self->send(contact.shard, TellHeld{question, session});
  if (contacts.empty()) return answer_held(question);
  self->delayed_send(self, parts.tell, HeldLate{question});
}

void RegistryState::held(const Held& m) {
  const auto found = questions.find(m.question);
  if (found == questions.end()) return;
  found->second.answers[m.from] = m.holding;
  if (found->second.answers.size() >= membership.members().size()) answer_held(m.question);
}

void RegistryState::answer_held(uint64_t question) {
  const auto found = questions.find(question);
  if (found == questions.end()) return;
  std::vector<ShardHolding> all;
  for (const Member& member : membership.members()) {
    const auto answer = found->second.answers.find(member.id);
    const bool came = answer != found->second.answers.end();
    all.push_back({member, came ? std::optional(answer->second) : std::nullopt});
  }
  const auto done = std::move(found->second.asked.done);
  questions.erase(found);
  done(std::move(all));
}

// -- rings ----

void RegistryState::form(FormRing& m) {
  if (asked) answer(no_ring("another ring is asked for"));
  asked = std::move(m);
  forming = false;
  if (membership.present() >= asked->members) return begin_ring();
  const std::chrono::milliseconds wait(asked->wait_ms);
  const bool too_late = came_after && *came_after > kAllAtOnce * wait;
  if (too_late && !asked->required) return begin_ring();
  set_watch(wait);
}

void RegistryState::begin_ring() {
  forming = true;
  if (!came_after) came_after = self->clock().now() - began;
  if (end) end->abort("another ring is formed");
  membership.form();
  const std::vector<Member>& shards = membership.shards();
  std::vector<PeerActor> known(shards.size() + 1);
  for (size_t i = 0; i < shards.size(); ++i) known[i + 1] = contacts.at(shards[i].id).mailbox;
  end = open_ring(parts.mailbox, membership.generation(), 0, known, parts.step_deadline, {});
  for (size_t i = 0; i < shards.size(); ++i) {
    self->send(contacts.at(shards[i].id).shard,
               Form{membership.generation(), static_cast<int32_t>(i + 1), shards, parts.mailbox,
                    parts.step_deadline.count()});
  }
  set_watch(parts.link_deadline);
  follow();
}

void RegistryState::linked(const Linked& m) {
  if (membership.answered(m.generation, m.from)) {
    unanswered.erase(m.from);
    came();
  }
  if (m.all) membership.linked(m.generation, m.from);
  follow();
}

void RegistryState::broken(const Broken& m) {
  if (m.generation != membership.generation()) return;
  if (m.unreachable != 0) return part(m.unreachable, m.why);
  membership.end(m.generation, m.why);
  follow();
}

void RegistryState::late(const Late& m) {
  if (!asked || m.watch != watch) return;
  if (!forming && !asked->required) return begin_ring();
  if (!forming) {
    Ring none = no_ring(std::to_string(membership.present()) + " of " +
                        std::to_string(asked->members) + " shards joined in time");
    none.short_of_members = true;
    return answer(std::move(none));
  }
  for (const Member& member : membership.awaited()) {
    if (membership.heard(member.id)) {
      part(member.id, "it does not reach all others");
    } else if (membership.set_aside(member.id)) {
      spdlog::warn("{} does not answer: rings are without it until it does", member.name);
      unanswered[member.id] = membership.generation();
      self->delayed_send(self, parts.step_deadline, Silent{member.id, membership.generation()});
      membership.end(membership.generation(), member.name + " does not answer");
    }
  }
  follow();
}

void RegistryState::silent(const Silent& m) {
  const auto found = unanswered.find(m.id);
  if (found != unanswered.end() && found->second == m.generation) part(m.id, "it does not answer");
}

void RegistryState::settled(const Settled& m) {
  if (m.generation != membership.generation() || membership.stage() != Stage::Standing) return;
  const std::string why = membership.why_not();
  if (why.empty()) return;
  const auto stood = self->clock().now() - stands_since;
  if (stood < parts.admission) return self->delayed_send(self, parts.admission - stood, m);
  if (stood < parts.patience && parts.at_work && parts.at_work())
    return self->delayed_send(self, kLookAgain, m);
  membership.end(m.generation, why);
  follow();
}

// What is to be done where the ring stands now.
void RegistryState::follow() {
  if (!end) return;
  if (membership.stage() == Stage::Over) {
    const std::string why = membership.why_not();
    std::exchange(end, nullptr)->abort(why);
    if (asked && forming) answer(no_ring(why));
  } else if (membership.stage() == Stage::Standing && asked && forming) {
    stands_since = self->clock().now();
    tell_shards(Begin{membership.generation(), asked->sessions});
    Ring ring;
    ring.generation = membership.generation();
    ring.end = end;
    ring.members = membership.shards();
    for (const Member& member : membership.shards())
      ring.shards.push_back(contacts.at(member.id).shard);
    answer(std::move(ring));
  }
}

void RegistryState::answer(Ring ring) {
  const FormRing question = *std::exchange(asked, std::nullopt);
  question.done(std::move(ring));
}

void RegistryState::set_watch(std::chrono::milliseconds time) {
  self->delayed_send(self, time, Late{++watch});
}

template <class Message>
void RegistryState::tell_shards(const Message& message) {
  for (const Member& member : membership.shards()) {
    if (const auto contact = contacts.find(member.id); contact != contacts.end())
      self->send(contact->second.shard, message);
  }
}

RegistryActor::behavior_type registry(RegistryActor::stateful_pointer<RegistryState> self,
                                      RegistryParts parts) {
  RegistryState* state = &self->state;
  state->membership = Membership(parts.terms, parts.generation);
  state->parts = std::move(parts);
  state->began = self->clock().now();
  self->set_down_handler([state](const caf::down_msg& m) { state->down(m); });
  return {
      [state](const Join& m) { state->join(m); },
      [state](const Linked& m) { state->linked(m); },
      [state](const Held& m) { state->held(m); },
      [state](const Broken& m) { state->broken(m); },
      [state](FormRing& m) { state->form(m); },
      [state](const Late& m) { state->late(m); },
      [state](const Settled& m) { state->settled(m); },
      [state](const Silent& m) { state->silent(m); },
      [state](const ListShards& m) { state->list(m); },
      [state](AskHeld& m) { state->ask_held(m); },
      [state](const HeldLate& m) { state->answer_held(m.question); },
  };
}

}  // namespace ringtide::actors::cluster
