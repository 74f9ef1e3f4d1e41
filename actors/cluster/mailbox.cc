#include "actors/cluster/mailbox.h"

#include <caf/all.hpp>
#include <utility>

namespace ringtide::actors::cluster {

void MailboxState::open(OpenRing& m) {
  if (m.generation <= ring.generation) return;
  if (ring.end) ring.end->end("another ring is formed");
  ring = std::move(m);
  linked = false;
  for (int s = 0; s < ring.end->shards(); ++s) {
    if (const PeerActor peer = ring.peers->at(s)) self->monitor(peer);
  }
  std::vector<Meet> waiting;
  waiting.swap(early);
  for (const Meet& each : waiting) meet(each);
  know(ring.end->shard(), {});
}

void MailboxState::meet(const Meet& m) {
  if (m.generation > ring.generation) return early.push_back(m);
  if (m.generation == ring.generation) know(m.shard, m.mailbox);
}

void MailboxState::reached(const Reached& m) {
  if (m.generation != ring.generation) return;
  self->send(m.mailbox, Meet{m.generation, ring.end->shard(), self});
  know(m.shard, m.mailbox);
}

// `mailbox` of a shard; of the own one there is none to know.
void MailboxState::know(int shard, const PeerActor& mailbox) {
  const int shards = ring.end->shards();
  if (shard < 0 || shard >= shards || linked) return;
  if (shard != ring.end->shard()) {
    ring.peers->set(shard, mailbox);
    self->monitor(mailbox);
  }
  for (int s = 0; s < shards; ++s) {
    if (s != ring.end->shard() && !ring.peers->at(s)) return;
  }
  linked = true;
  if (ring.linked) ring.linked();
}

void MailboxState::piece(const RingPiece& m) {
  if (m.generation != ring.generation) return;
  ring.end->take(m.from, {m.step, m.gathered, m.size, m.offset, m.bytes.bytes});
}

void MailboxState::taken(const RingTaken& m) {
  if (m.generation == ring.generation) ring.end->taken(m.from, m.step);
}

void MailboxState::over(const RingOver& m) {
  if (m.generation == ring.generation) ring.end->end(m.why);
}

void MailboxState::down(const caf::down_msg& m) {
  if (!ring.end) return;
  for (int s = 0; s < ring.end->shards(); ++s) {
    const PeerActor peer = ring.peers->at(s);
    if (peer && peer.address() == m.source) ring.end->abort("lost shard " + std::to_string(s));
  }
}

void MailboxState::exit() {
  if (ring.end) ring.end->abort("the process stops");
  self->quit();
}

MailboxActor::behavior_type mailbox(MailboxActor::stateful_pointer<MailboxState> self) {
  MailboxState* state = &self->state;
  self->set_down_handler([state](const caf::down_msg& m) { state->down(m); });
  self->set_exit_handler([state](const caf::exit_msg&) { state->exit(); });
  return {
      [state](const Meet& m) { state->meet(m); },
      [state](const RingPiece& m) { state->piece(m); },
      [state](const RingTaken& m) { state->taken(m); },
      [state](const RingOver& m) { state->over(m); },
      [state](OpenRing& m) { state->open(m); },
      [state](const Reached& m) { state->reached(m); },
  };
}

std::shared_ptr<RingEnd> open_ring(const MailboxActor& mailbox, uint64_t generation, int shard,
                                   const std::vector<PeerActor>& known,
                                   std::chrono::milliseconds deadline,
                                   std::function<void()> linked) {
  const int shards = static_cast<int>(known.size());
  auto peers = std::make_shared<Peers>(shards);
  for (int s = 0; s < shards; ++s) peers->set(s, known[s]);
  auto end =
      std::make_shared<RingEnd>(shard, shards, deadline, make_carrier(generation, shard, peers));
  caf::anon_send(mailbox, OpenRing{generation, end, std::move(peers), std::move(linked)});
  return end;
}

}  // namespace ringtide::actors::cluster
