#include "actors/cluster/carrier.h"

#include <caf/all.hpp>
#include <utility>

namespace ringtide::actors::cluster {
namespace {

class MessageCarrier final : public Carrier {
 public:
  MessageCarrier(uint64_t generation, int shard, std::shared_ptr<const Peers> peers)
      : generation_(generation), shard_(shard), peers_(std::move(peers)) {}

  void piece(int to, Piece piece) override {
    send(to, RingPiece{generation_,
                       shard_,
                       piece.gathered,
                       piece.step,
                       piece.size,
                       piece.offset,
                       {std::move(piece.bytes)}});
  }
  void taken(int to, uint64_t step) override { send(to, RingTaken{generation_, shard_, step}); }
  void over(const std::string& why) override {
    for (const PeerActor& peer : peers_->all()) {
      if (peer) caf::anon_send(peer, RingOver{generation_, why});
    }
  }

 private:
  template <class Message>
  void send(int to, Message message) {
    if (const PeerActor peer = peers_->at(to)) caf::anon_send(peer, std::move(message));
  }

  const uint64_t generation_;
  const int shard_;
  const std::shared_ptr<const Peers> peers_;
};

}  // namespace

void Peers::set(int shard, PeerActor mailbox) {
  const std::lock_guard lock(mutex_);
  mailboxes_.at(shard) = std::move(mailbox);
}

PeerActor Peers::at(int shard) const {
  const std::lock_guard lock(mutex_);
  return mailboxes_.at(shard);
}

std::vector<PeerActor> Peers::all() const {
  const std::lock_guard lock(mutex_);
  return mailboxes_;
}

std::unique_ptr<Carrier> make_carrier(uint64_t generation, int shard,
                                      std::shared_ptr<const Peers> peers) {
  return std::make_unique<MessageCarrier>(generation, shard, std::move(peers));
}

}  // namespace ringtide::actors::cluster
